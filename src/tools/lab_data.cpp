// lab_data: makes, shows and checks the HDF5 files that training reads.
#include <sys/resource.h>

#include <array>
#include <cxxopts.hpp>
#include <filesystem>
#include <iostream>
#include <span>

#include "lab/core/error.h"
#include "lab/core/process.h"
#include "lab/core/program.h"
#include "lab/core/version.h"
#include "lab/data/hdf5_writer.h"
#include "lab/data/idx.h"
#include "lab/data/inspection.h"
#include "lab/data/layout.h"

namespace {

using namespace lab;

struct Command {
  std::string name, arguments, purpose;
  std::string positional;  // what its one word without a dash is
  void (*add_options)(cxxopts::Options&);
  ExitCode (*run)(const cxxopts::ParseResult&);
  bool hidden = false;
};

std::string shape_of(const IdxArray& array) {
  std::vector<std::string> extents;
  for (const int64_t extent : array.shape) extents.push_back(text(extent));
  return text(name_of(array.type), " (", join(extents), ")");
}

std::string required(const cxxopts::ParseResult& options, const std::string& command,
                     const std::string& name) {
  if (options.count(name) == 0)
    throw UsageError(command, " needs --", name, "; lab_data import --help shows all options");
  return options[name].as<std::string>();
}

void add_import_options(cxxopts::Options& options) {
  options.add_options()("images", "idx file of the images, plain or .gz", cxxopts::value<std::string>(), "F")(
      "labels", "idx file of their labels, plain or .gz", cxxopts::value<std::string>(), "F")(
      "out", "HDF5 file to write", cxxopts::value<std::string>(), "FILE.h5")("force",
                                                                             "replace it if it is there");
}

ExitCode import_idx(const cxxopts::ParseResult& options) {
  const std::string format = options["positional"].as<std::string>();
  if (format != "idx") throw UsageError("cannot import ", quoted(format), "; the known format is idx");
  const std::string images_path = required(options, "import idx", "images");
  const std::string labels_path = required(options, "import idx", "labels");
  const std::string out = required(options, "import idx", "out");
  if (options.count("force") == 0 && std::filesystem::exists(out))
    throw UsageError(quoted(out), " is already there; name another file, or replace it with --force");
  const IdxArray images = read_idx(images_path), labels = read_idx(labels_path);
  if (images.shape.size() < 2)
    throw DataError(images_path, " holds ", shape_of(images),
                    "; images have two dimensions or more: are --images and "
                    "--labels swapped?");
  if (labels.shape.size() != 1)
    throw DataError(labels_path, " holds ", shape_of(labels),
                    "; labels have one dimension: are --images and --labels "
                    "swapped?");
  if (images.shape.front() != labels.shape.front())
    throw DataError(images_path, " holds ", images.shape.front(), " images, ", labels_path, " holds ",
                    labels.shape.front(), " labels; name two files that belong together");
  write_hdf5(out, {{"images", images.type, images.shape, images.bytes},
                   {"labels", labels.type, labels.shape, labels.bytes}});
  std::cout << "wrote " << out << ": images " << shape_of(images) << ", labels " << shape_of(labels) << "\n";
  return ExitCode::done;
}

void add_inspect_options(cxxopts::Options& options) {
  options.add_options()("show", "draw sample I as well", cxxopts::value<int64_t>(), "I");
}

ExitCode inspect(const cxxopts::ParseResult& options) {
  const FileLayout layout = read_layout_in_helper(options["positional"].as<std::string>());
  std::cout << describe(layout);
  if (options.count("show")) std::cout << picture(layout, options["show"].as<int64_t>());
  return ExitCode::done;
}

void add_no_options(cxxopts::Options&) {}

ExitCode verify(const cxxopts::ParseResult& options) {
  const FileLayout layout = read_layout_in_helper(options["positional"].as<std::string>());
  const std::vector<std::string> problems = problems_in(layout);
  for (const std::string& problem : problems) std::cerr << "lab_data: " << problem << "\n";
  if (!problems.empty())
    throw DataError(layout.path, " has ", problems.size(), problems.size() == 1 ? " problem" : " problems");
  std::vector<std::string> names;
  for (const FieldLayout& field : layout.fields) names.push_back(field.name);
  std::cout << layout.path << " is sound: " << layout.fields.front().samples() << " samples of "
            << join(names) << "\n";
  return ExitCode::done;
}

// What other programs of the project run before they read a file. A hostile file may crash the HDF5 library
// or keep it busy for ever: this process is there to be lost.
ExitCode print_layout(const cxxopts::ParseResult& options) {
  start_process();
  constexpr rlimit no_core{0, 0}, two_minutes{120, 120};
  setrlimit(RLIMIT_CORE, &no_core);
  setrlimit(RLIMIT_CPU, &two_minutes);
  std::cout << to_text(read_layout(options["positional"].as<std::string>())) << "\n";
  return ExitCode::done;
}

const std::vector<Command>& commands() {
  static const std::vector<Command> all = {
      {"import", "idx --images F --labels F --out FILE.h5", "write an HDF5 file from idx files",
       "format (idx)", add_import_options, import_idx},
      {"inspect", "FILE.h5", "show fields, shapes, types, values and samples", "file", add_inspect_options,
       inspect},
      {"verify", "FILE.h5", "read everything; list all that is wrong (exit 65)", "file", add_no_options,
       verify},
      {"layout", "FILE.h5", "print where the samples lie, as JSON", "file", add_no_options, print_layout,
       true},
  };
  return all;
}

std::string overview() {
  std::string out = "lab_data makes, shows and checks the HDF5 files that training reads.\n\n";
  for (const Command& command : commands())
    if (!command.hidden)
      out += text("  lab_data ", command.name, " ", command.arguments, "\n      ", command.purpose, "\n");
  return out + "\nlab_data COMMAND --help shows the options of a command, lab_data --version the version.\n";
}

const Command& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    if (command.name == name) return command;
    if (!command.hidden) names.push_back(command.name);
  }
  const std::string near = nearest_name(name, names);
  throw UsageError("there is no command ", quoted(name),
                   near.empty() ? "" : text("; did you mean ", near, "?"), "; the commands are ",
                   join(names));
}

[[noreturn]] void refuse_word(const std::string& word, const cxxopts::Options& options,
                              const Command& command) {
  if (!word.starts_with("-"))
    throw UsageError(command.name, " cannot do anything with ", quoted(word), "; usage: lab_data ",
                     command.name, " ", command.arguments);
  std::vector<std::string> known;
  for (const auto& option : options.group_help("").options) known.push_back("--" + option.l.front());
  const std::string near = nearest_name(word.substr(0, word.find('=')), known);
  throw UsageError(command.name, " has no option ", word,
                   near.empty() ? "" : text("; did you mean ", near, "?"), "; it has ", join(known));
}

cxxopts::ParseResult parsed(cxxopts::Options& options, std::span<char*> arguments) {
  try {
    return options.parse(static_cast<int>(arguments.size()), arguments.data());
  } catch (const cxxopts::exceptions::exception& problem) {
    throw UsageError(problem.what(), "; lab_data --help shows the usage");
  }
}

ExitCode run_command(const Command& command, std::span<char*> arguments) {
  cxxopts::Options options("lab_data " + command.name, command.purpose);
  options.custom_help(command.arguments + " [OPTION...]").positional_help("");
  command.add_options(options);
  options.add_options()("help", "print this and exit");
  options.add_options("hidden")("positional", "", cxxopts::value<std::string>());
  options.parse_positional("positional");
  options.allow_unrecognised_options();
  const cxxopts::ParseResult result = parsed(options, arguments);
  if (result.count("help")) {
    std::cout << options.help({""});
    return ExitCode::done;
  }
  if (!result.unmatched().empty()) refuse_word(result.unmatched().front(), options, command);
  if (result.count("positional") == 0)
    throw UsageError(command.name, " needs a ", command.positional, "; usage: lab_data ", command.name, " ",
                     command.arguments);
  return command.run(result);
}

ExitCode run(std::span<char*> arguments) {
  if (arguments.size() < 2) throw UsageError("no command was given; lab_data --help lists them");
  const std::string first = arguments[1];
  if (first == "--help" || first == "-h" || first == "help") {
    std::cout << overview();
    return ExitCode::done;
  }
  if (first == "--version") {
    std::cout << "lab_data " << version << "\n";
    return ExitCode::done;
  }
  return run_command(find_command(first), arguments.subspan(1));
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("lab_data", [&] { return static_cast<int>(run({argv, static_cast<size_t>(argc)})); });
}
