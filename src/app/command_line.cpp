// cxxopts would split KEY=[1,2] at the comma.
#define CXXOPTS_VECTOR_DELIMITER '\0'

#include "app/command_line.h"

#include <algorithm>
#include <charconv>
#include <cxxopts.hpp>
#include <map>

namespace lab {
namespace {

struct Option {
  char letter;                    // 0: none
  std::string name, value, help;  // value: how its value is called, in [] if it may be left out; empty: none
  bool for_infer = true;
};

const std::vector<Option>& table() {
  static const std::vector<Option> options = {
      {0, "set", "KEY=VALUE",
       "override a config value; may be given again; VALUE is TOML, or plain text for strings"},
      {'o', "offline", "", "open no socket but MPI's own"},
      {0, "resume", "[PATH]",
       "go on with a run: its folder or a checkpoint; alone: the newest unfinished run, else a new one",
       false},
      {'d', "dev-run", "V",
       "a trial on the first V batches (5), or that share of them (0.1), of both sets: overfit_batches = V, "
       "each step recorded, in the project \"test\", named dev_...",
       false},
      {0, "allow-config-change", "", "with --resume: go on even if the config now means something else",
       false},
      {0, "check", "",
       "look for mistakes in config, data, model and disk, tell what a run would be, and exit; no GPU, no "
       "server",
       false},
      {0, "check-gradients", "",
       "hold the gradient that the ranks make together against that of the whole batch at once, and exit",
       false},
      {0, "validate-only", "",
       "train nothing: measure on the validation data the weights that the config's checkpoint or "
       "trainer.fit.ckpt_path names, or those of a run: --resume[=PATH], here the newest, finished or not",
       false},
      {0, "test", "",
       "the same on the experiment's test data; so after a run: --test --resume=FOLDER, or "
       "--test --set checkpoint.checkpoint_task_id=ID --set checkpoint.checkpoint_name=best",
       false},
      {0, "debug", "",
       "on an error: say what was thrown and from where, of a training step also its samples and what is in "
       "the tensors, then wait for a debugger; hangs are not looked for"},
      {'g', "gpu-devices", "L", "0,1,...: which GPUs to use; each rank of a node takes the next one"},
      {0, "backend", "B", "auto | nccl | mpi | self: how ranks talk to each other"},
      {0, "print-config", "", "print the resolved config, each value with its origin, and exit"},
      {0, "help-config", "", "explain every config key, and exit; with a config: its experiment's too"},
      {0, "version", "", "print the version, and exit"},
      {'h', "help", "", "print this, and exit"},
  };
  return options;
}

const std::vector<Option>& options_for(Program program) {
  static const std::vector<Option> for_infer = [] {
    std::vector<Option> some = table();
    std::erase_if(some, [](const Option& option) { return !option.for_infer; });
    return some;
  }();
  return program == Program::infer ? for_infer : table();
}

// Parts of the contract that this version does not have yet.
const std::vector<std::string> later = {"sweep",  "ranks-per-job", "profile",
                                        "replay", "verify-resume", "plugin"};

[[noreturn]] void refuse(Program program, const std::string& option) {
  const std::string name = option.substr(0, option.find('='));
  const std::string bare = name.substr(name.find_first_not_of('-'));
  if (std::find(later.begin(), later.end(), bare) != later.end())
    throw UsageError("option ", name, " is not in this version of ", program_name(program),
                     " yet; see --help for those that are");
  std::vector<std::string> names;
  for (const auto& known : options_for(program)) names.push_back(known.name);
  const std::string near = nearest_name(bare, names);
  throw UsageError("unknown option ", name, near.empty() ? "" : text("; did you mean --", near, "?"),
                   "; see ", program_name(program), " --help");
}

// nullptr: no such option. "--name", "--name=value", "-x".
const Option* find_option(Program program, const std::string& word) {
  const std::string name = word.substr(0, word.find('='));
  for (const auto& option : options_for(program))
    if (name == "--" + option.name || (option.letter != 0 && name == std::string("-") + option.letter))
      return &option;
  return nullptr;
}

// The words behind the config that lab_infer's experiment gets: from the first one that is not an option, or
// from "--".
struct Words {
  std::vector<std::string> options, positional;
};
Words split(Program program, const std::vector<std::string>& words) {
  Words out;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    const bool rest =
        word == "--" || (program == Program::infer && !out.positional.empty() && word[0] != '-');
    if (rest) {
      out.positional.insert(out.positional.end(),
                            words.begin() + static_cast<std::ptrdiff_t>(i + (word == "--")), words.end());
      return out;
    }
    if (word.size() < 2 || word[0] != '-') {
      out.positional.push_back(word);
      continue;
    }
    const Option* option = find_option(program, word);
    if (!option) refuse(program, word);
    out.options.push_back(word);
    const bool inline_value = word.find('=') != std::string::npos;
    if (option->value.empty() && inline_value)
      throw UsageError("option --", option->name, " takes no value, but got ", quoted(word));
    if (option->value.empty() || option->value[0] == '[' || inline_value) continue;
    if (i + 1 == words.size())
      throw UsageError("option --", option->name, " wants a value: --", option->name, " ", option->value);
    out.options.push_back(words[++i]);
  }
  return out;
}

// What is done instead of a run is one thing.
void refuse_two_purposes(const CommandLine& line) {
  if (line.check_gradients && line.resume)
    throw UsageError(
        "--check-gradients looks at the weights that a run begins with, and begins none: give it "
        "without --resume");
  if (line.validate_only && line.test)
    throw UsageError("--validate-only and --test are of different data: start it once for each");
  if (line.check_gradients && line.measures())
    throw UsageError("--check-gradients and ", line.test ? "--test" : "--validate-only",
                     " are two things that are done instead of a run: start it once for each");
}

void refuse_for_several(const CommandLine& line) {
  const auto several = [&](const std::string& what, const std::string& instead) {
    throw UsageError(what, " is for one config, but there are ", line.configs.size(), ": ", instead);
  };
  if (!line.dev_run.empty()) several("--dev-run", "try each by itself");
  if (!line.resume_path.empty())
    several("--resume=PATH", "--resume alone goes on with the newest unfinished run of each");
  if (line.check_gradients) several("--check-gradients", "start it once for each");
  if (line.debug) several("--debug", "look into one at a time");
}

cxxopts::Options options_of(Program program) {
  cxxopts::Options options(program_name(program),
                           program == Program::train
                               ? "Trains an experiment, on as many ranks as mpirun starts."
                               : "Predicts with a trained experiment; all ranks share the work.");
  options.custom_help(program == Program::train ? "CONFIG.toml [CONFIG.toml ...] [options]"
                                                : "CONFIG.toml [options] [--] [ARG ...]");
  options.set_width(100);
  for (const auto& option : options_for(program)) {
    const std::string names = option.letter == 0 ? option.name : text(option.letter, ",", option.name);
    if (option.name == "set")
      options.add_options()(names, option.help, cxxopts::value<std::vector<std::string>>(), option.value);
    else if (option.value == "[PATH]")
      options.add_options()(names, option.help, cxxopts::value<std::string>()->implicit_value(""), "PATH");
    else if (!option.value.empty())
      options.add_options()(names, option.help, cxxopts::value<std::string>()->default_value("auto"),
                            option.value);
    else
      options.add_options()(names, option.help);
  }
  return options;
}

Backend backend_named(const std::string& name) {
  const std::map<std::string, Backend> known = {
      {"auto", Backend::automatic}, {"self", Backend::self}, {"mpi", Backend::mpi}, {"nccl", Backend::nccl}};
  if (!known.contains(name))
    throw UsageError("--backend ", quoted(name), " is none of: auto, nccl, mpi, self");
  return known.at(name);
}

// As it was given, when it is 1 batch or more, or a share of them.
std::string dev_run_of(const std::string& value) {
  if (value == "auto") return "";
  const char* end = value.data() + value.size();
  int64_t batches = 0;
  double share = 0;
  const bool counts = value.find('.') == std::string::npos;
  const auto [last, problem] =
      counts ? std::from_chars(value.data(), end, batches) : std::from_chars(value.data(), end, share);
  const bool good = counts ? batches >= 1 : share > 0 && share <= 1;
  if (problem != std::errc() || last != end || !good)
    throw UsageError("--dev-run ", quoted(value),
                     " is neither a number of batches (1 or more) nor a share of them (as 0.1, up to 1.0)");
  return value;
}

std::vector<int> gpus_named(const std::string& list) {
  std::vector<int> gpus;
  if (list == "auto") return gpus;
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    int index = -1;
    const auto [last, problem] = std::from_chars(list.data() + at, list.data() + end, index);
    if (problem != std::errc() || last != list.data() + end || index < 0 ||
        std::ranges::find(gpus, index) != gpus.end())
      throw UsageError("-g ", quoted(list), " is no list of different GPUs, such as 0,1");
    gpus.push_back(index);
    at = end + 1;
  }
  return gpus;
}

}  // namespace

std::string program_name(Program program) { return program == Program::train ? "lab_train" : "lab_infer"; }

CommandLine parse_command_line(Program program, int argc, char** argv) {
  const Words words = split(program, std::vector<std::string>(argv + 1, argv + argc));
  std::vector<const char*> pointers = {argv[0]};
  for (const auto& word : words.options) pointers.push_back(word.c_str());
  CommandLine line;
  try {
    const auto parsed = options_of(program).parse(static_cast<int>(pointers.size()), pointers.data());
    if (parsed.count("set")) line.sets = parsed["set"].as<std::vector<std::string>>();
    line.backend = backend_named(parsed["backend"].as<std::string>());
    line.gpus = gpus_named(parsed["gpu-devices"].as<std::string>());
    if (program == Program::train) {
      line.resume = parsed.count("resume") > 0;
      if (line.resume) line.resume_path = parsed["resume"].as<std::string>();
      line.allow_config_change = parsed.count("allow-config-change") > 0;
      line.check_gradients = parsed.count("check-gradients") > 0;
      line.check = parsed.count("check") > 0;
      line.validate_only = parsed.count("validate-only") > 0;
      line.test = parsed.count("test") > 0;
      line.dev_run = dev_run_of(parsed["dev-run"].as<std::string>());
      refuse_two_purposes(line);
    }
    line.offline = parsed.count("offline") > 0;
    line.debug = parsed.count("debug") > 0;
    line.print_config = parsed.count("print-config") > 0;
    line.help = parsed.count("help") > 0;
    line.help_config = parsed.count("help-config") > 0;
    line.version = parsed.count("version") > 0;
  } catch (const cxxopts::exceptions::exception& e) {
    throw UsageError(e.what(), "; see ", program_name(program), " --help");
  }
  if (!words.positional.empty()) {
    line.config = words.positional.front();
    line.arguments.assign(words.positional.begin() + 1, words.positional.end());
  }
  if (line.help || line.version || (line.help_config && line.config.empty())) return line;
  if (line.config.empty())
    throw UsageError(program_name(program), " wants a config: ", program_name(program),
                     " CONFIG.toml; see --help");
  if (program == Program::train && !line.arguments.empty()) {
    line.configs = words.positional;
    line.arguments.clear();
    refuse_for_several(line);
  }
  return line;
}

std::string help_text(Program program) {
  std::string help = options_of(program).help();
  const std::string of_cxxopts = " [=PATH(=)]    ";  // how it shows a value that may be left out
  if (const size_t at = help.find(of_cxxopts); at != std::string::npos)
    help.replace(at, of_cxxopts.size(), "[=PATH]        ");
  if (program == Program::train)
    help +=
        "\nSeveral configs are several jobs: each gets an equal share of the ranks; where there are fewer\n"
        "ranks than jobs each rank takes the next one when it is done with its last.\n";
  if (program == Program::infer)
    help += "\nARG: what the experiment predicts with; start it without any to be told which it wants.\n";
  return help;
}

}  // namespace lab
