// Writes run folders with spools, as runs would, and their offline sessions: what
// clearml_offline_session_test.py imports. Prints the folder of each session.
//   spool_tool FOLDER FILES_HOST

#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>

#include "lab/track/offline_session.h"
#include "lab/track/spool.h"

namespace {

namespace fs = std::filesystem;

lab::TaskDescription described(const std::string& stem, const std::string& token) {
  lab::TaskDescription task;
  task.stem = stem;
  task.token = token;
  task.project = "Offline/runs (#1) 100%";
  task.tags = {"first", "zweites „Tag“"};
  return task;
}

// A run that says everything, breaks off, goes on from step 50, and fails.
void write_full(const std::string& folder) {
  fs::create_directories(folder + "/checkpoints");
  const auto weights = [&](const std::string& slot) {
    return folder + "/checkpoints/" + slot + ".safetensors";
  };
  for (const std::string slot : {"best", "last"}) {
    std::string bytes = "weights of " + slot;
    for (int i = 0; i < 100'000; ++i) bytes += static_cast<char>(i * i % 251);
    std::ofstream(weights(slot), std::ios::binary) << bytes;
  }
  {
    lab::Spool spool(folder, lab::Log::silent());
    lab::TaskDescription task = described("odd #1 100% „name“", "0123456789abcdef");
    task.parent = "00000000000000000000000000000000";  // which no server knows
    task.parameters = {
        {"config/learning_rate", "1e-300", "float"}, {"config/batch_size", "128", "int"},
        {"config/shuffle", "True", "bool"},          {"config/note", "Ünïcode \"q\" \\ #%", "str"},
        {"config/milestones", "[5, 8]", "list"},     {"trainer.init/seed", "9007199254740993", "int"}};
    task.configuration = "# Ünïcode „q“ \\ %20\n[config]\nnote = \"\"\"a\n\tb\"\"\"\n";
    task.script = {.binary = "lab_train",
                   .entry_point = "lab_train configs/odd.toml",
                   .working_dir = ".",
                   .repository = "git@host:lab.git",
                   .branch = "main",
                   .commit = "c0ffee",
                   .diff = "+ä\n"};
    spool.task(task);
    spool.status("in_progress", "", "");
    for (int64_t step = 0; step < 100; ++step)
      spool.scalars({{"loss/train", step, 0, 1.0 / static_cast<double>(step + 1)}},
                    1.7e9 + static_cast<double>(step));
    spool.model("best", weights("best"), 10, "an older one");
    for (int line = 0; line < 50; ++line) spool.console("info", "line " + std::to_string(line));
  }
  std::ofstream(folder + "/" + lab::spool_file, std::ios::app) << R"({"type":"training_stats_sc)";  // killed
  lab::Spool spool(folder, lab::Log::silent());
  spool.status("in_progress", "", "");
  for (int64_t step = 50; step < 2400; ++step)
    spool.scalars({{"loss/train", step, 0, 1.0 / static_cast<double>(step + 1)}},
                  1.7e9 + static_cast<double>(step));
  spool.scalars({{"odd #1/100% „ä“", 1, 0, 1e-300},
                 {"a/b/c", int64_t{1} << 40, 0, 9007199254740993.0},
                 {"epoch", 7, 0, 3}},
                1.7e9);
  spool.point(":monitor:machine", "cpu_usage", 7, 12.5);
  spool.plot("confusion #%", "validate", 7,
             R"({"data":[{"type":"heatmap","z":[[1,2],[3,4]]}],"layout":{"title":"ä"}})");
  for (int line = 50; line < 100; ++line)
    spool.console(line % 10 == 0 ? "warning" : "info",
                  "line " + std::to_string(line) + (line == 77 ? " „ä“\t\"%\"" : ""));
  spool.model("last", weights("last"), 2399, "lr = 0.1\n");
  spool.model("best", weights("best"), 77, "lr = 0.1\n");
  spool.status("failed", "exit 65", "data/„x“.h5 is damaged");
}

void write_all(const std::string& folder, const std::string& files_host) {
  lab::ClearmlSettings settings;
  settings.files_host = files_host;
  const auto session = [&](const std::string& name, const std::string& task_name) {
    std::puts(lab::write_offline_session(folder + "/" + name, task_name, settings, lab::Log()).c_str());
  };
  write_full(folder + "/full");
  session("full", "odd #1 100% „name“_v1");

  fs::create_directories(folder + "/empty");
  lab::Spool(folder + "/empty", lab::Log::silent()).task(described("empty", "00000000000000aa"));
  session("empty", "empty_v1");

  fs::create_directories(folder + "/torn");
  {
    lab::Spool spool(folder + "/torn", lab::Log::silent());
    spool.task(described("torn", "00000000000000bb"));
    spool.scalars({{"loss", 0, 0, 0.5}, {"loss", 1, 0, 0.25}}, 1.7e9);
    spool.console("error", "the last word");
  }
  std::ofstream(folder + "/torn/" + lab::spool_file, std::ios::app) << R"({"type":"log","level":"in)";
  session("torn", "torn_v1");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: spool_tool FOLDER FILES_HOST\n", stderr);
    return 64;
  }
  try {
    write_all(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 70;
  }
  return 0;
}
