#include "lab/launch/request.h"

#include <charconv>
#include <sstream>

#include "lab/core/error.h"

namespace lab {
namespace {

struct Option {
  std::vector<std::string> names;
  std::string value, help;  // value: how its value is called; empty: it takes none
  void (*take)(LaunchRequest&, const std::string& name, const std::string& value);
};

int number(const std::string& name, const std::string& value, int least) {
  int out = 0;
  const char* end = value.data() + value.size();
  const auto [stop, problem] = std::from_chars(value.data(), end, out);
  if (problem != std::errc() || stop != end || out < least)
    throw UsageError(name, " ", quoted(value), " is not a whole number from ", least, " up");
  return out;
}

void take_ranks(LaunchRequest& request, const std::string& name, const std::string& value) {
  request.ranks = number(name, value, 1);
}
void take_restarts(LaunchRequest& request, const std::string& name, const std::string& value) {
  request.restarts = number(name, value, 0);
}
void take_launcher_words(LaunchRequest& request, const std::string&, const std::string& value) {
  std::istringstream words(value);
  for (std::string word; words >> word;) request.for_launcher.push_back(word);
}
void take_help(LaunchRequest& request, const std::string&, const std::string&) { request.help = true; }
void take_version(LaunchRequest& request, const std::string&, const std::string&) { request.version = true; }

const std::vector<Option>& table() {
  static const std::vector<Option> options = {
      {{"-np", "-n", "--np"}, "N", "how many ranks; inside a Slurm job: as many as it has tasks", take_ranks},
      {{"--restarts"}, "K", "start again K times at most (no limit)", take_restarts},
      {{"--launcher-args"},
       "\"WORDS\"",
       "further words for mpirun (or srun): \"--hostfile hosts --map-by node\"",
       take_launcher_words},
      {{"--version"}, "", "print the version, and exit", take_version},
      {{"--help", "-h"}, "", "print this, and exit", take_help},
  };
  return options;
}

const Option& find_option(const std::string& name) {
  std::vector<std::string> known;
  for (const Option& option : table())
    for (const std::string& one : option.names) {
      if (one == name) return option;
      known.push_back(one);
    }
  const std::string near = nearest_name(name, known);
  throw UsageError("unknown option ", name, near.empty() ? "" : text("; did you mean ", near, "?"),
                   " See lab_run --help; options of the program stand after its name.");
}

}  // namespace

LaunchRequest parse_launch_request(std::span<const std::string> words) {
  LaunchRequest request;
  size_t i = 0;
  for (; i < words.size() && words[i].starts_with("-") && words[i] != "--"; ++i) {
    const size_t equals = words[i].find('=');
    const std::string name = words[i].substr(0, equals);
    const Option& option = find_option(name);
    const bool inlined = equals != std::string::npos;
    if (option.value.empty() && inlined) throw UsageError(name, " takes no value, but got ", words[i]);
    if (!option.value.empty() && !inlined && i + 1 == words.size())
      throw UsageError(name, " wants a value: ", name, " ", option.value);
    const std::string value = option.value.empty() ? "" : inlined ? words[i].substr(equals + 1) : words[++i];
    option.take(request, name, value);
  }
  if (request.help || request.version) return request;
  if (i < words.size() && words[i] == "--") ++i;
  if (i == words.size())
    throw UsageError("no program was named: lab_run -np N lab_train CONFIG.toml; see lab_run --help");
  request.program = words[i];
  request.for_program.assign(words.begin() + static_cast<std::ptrdiff_t>(i) + 1, words.end());
  return request;
}

std::string launch_help() {
  std::string out =
      "Starts a program on N ranks and keeps it going: after a crash or an early stop it starts it again "
      "with\n"
      "--resume, until it is done or three starts in a row have brought no new checkpoint.\n"
      "Usage:\n  lab_run -np N [options] lab_train CONFIG.toml [options of lab_train]\n\n";
  for (const Option& option : table()) {
    std::string line = "  " + join(option.names) + (option.value.empty() ? "" : " " + option.value);
    line.resize(std::max<size_t>(line.size() + 2, 28), ' ');
    out += line + option.help + "\n";
  }
  return out +
         "\nINT, TERM, HUP or USR1 to lab_run: the ranks finish their step and save; lab_run ends with 75 "
         "(INT: "
         "130).\nA second one ends everything at once. 93: three starts without progress. Otherwise the "
         "ranks' "
         "exit code.\nInside a Slurm job the ranks are started by srun, elsewhere by mpirun.\n";
}

}  // namespace lab
