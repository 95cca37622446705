// lab_ckpt: shows, compares, converts and checks checkpoints: lab's, safetensors, and those of Python's
// torch.save.
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <set>
#include <span>

#include "lab/core/error.h"
#include "lab/core/program.h"
#include "lab/core/version.h"
#include "lab/train/weights_file.h"

namespace {

using namespace lab;

struct Option {
  std::string name, help;
};

// What a command was given: as many words as it has names for, and which of its options.
struct Given {
  std::vector<std::string> words;
  std::set<std::string> options;
  bool has(const std::string& option) const { return options.contains(option); }
};

struct Command {
  std::string name;
  std::vector<std::string> words;
  std::string purpose;
  std::vector<Option> options;
  int (*run)(const Given&);
};

constexpr int differs = 1;  // of `diff`, as of the program of that name

std::string shape_of(const TensorView& tensor) {
  std::vector<std::string> sizes;
  for (const int64_t size : tensor.shape) sizes.push_back(std::to_string(size));
  return text('(', join(sizes), ')');
}

std::string kind_of(const TensorView& tensor) { return text(name_of(tensor.type), ' ', shape_of(tensor)); }

// A name out of a file, which may hold anything, as it is or quoted.
std::string shown(const std::string& name) {
  const bool plain = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
  });
  return plain ? name : quoted(name);
}

uint64_t bytes_of(const TensorView& tensor) {
  return static_cast<uint64_t>(byte_count(tensor.type, tensor.shape).value());
}

uint64_t total_bytes(const std::vector<TensorView>& tensors) {
  uint64_t out = 0;
  for (const TensorView& tensor : tensors) out += bytes_of(tensor);
  return out;
}

std::string summary(const WeightsFile& file, const std::vector<TensorView>& tensors) {
  return text(file.path(), ": ", file.is_torch() ? "torch.save" : "safetensors", ", ", tensors.size(),
              tensors.size() == 1 ? " tensor, " : " tensors, ", byte_size(total_bytes(tensors)));
}

int inspect(const Given& given) {
  const WeightsFile file(given.words[0]);
  const auto tensors = file.tensors();
  size_t width = 0;
  for (const TensorView& tensor : tensors)
    width = std::max(width, std::min<size_t>(shown(tensor.name).size(), 60));
  std::cout << summary(file, tensors) << "\n";
  for (const TensorView& tensor : tensors) {
    std::string name = shown(tensor.name);
    if (name.size() < width) name.resize(width, ' ');
    std::cout << "  " << name << "  " << kind_of(tensor) << "  " << bytes_of(tensor) << " bytes\n";
  }
  const auto values = file.values();
  if (!values.empty()) std::cout << "other values:\n";
  for (const auto& [place, value] : values) std::cout << "  " << shown(place) << " = " << value << "\n";
  return 0;
}

const TensorView* find(const std::vector<TensorView>& sorted, const std::string& name) {
  const auto found = std::lower_bound(
      sorted.begin(), sorted.end(), name,
      [](const TensorView& tensor, const std::string& wanted) { return tensor.name < wanted; });
  return found != sorted.end() && found->name == name ? &*found : nullptr;
}

// What there is to say of two tensors of one name; "" when they are the same.
std::string compared(const TensorView& a, const TensorView& b) {
  if (a.type != b.type || a.shape != b.shape) return text(kind_of(a), " and ", kind_of(b));
  const TensorDifference found = difference(a, b);
  if (found.same_bits) return "";
  if (found.largest == 0) return "equal numbers with other bits (signs of zeros, or NaNs)";
  return text("differs by up to ", shortest(found.largest));
}

int diff(const Given& given) {
  const WeightsFile a(given.words[0]), b(given.words[1]);
  const auto sorted = [&](const WeightsFile& file) {
    auto out = given.has("--all") ? file.tensors() : file.model(given.has("--keep-names"));
    std::sort(out.begin(), out.end(),
              [](const TensorView& x, const TensorView& y) { return x.name < y.name; });
    return out;
  };
  const auto left = sorted(a), right = sorted(b);
  size_t differences = 0;
  const auto say = [&](const std::string& name, const std::string& what) {
    ++differences;
    std::cout << "  " << shown(name) << ": " << what << "\n";
  };
  for (const TensorView& tensor : left) {
    const TensorView* other = find(right, tensor.name);
    const std::string what = other ? compared(tensor, *other) : text(kind_of(tensor), ", only in ", a.path());
    if (!what.empty()) say(tensor.name, what);
  }
  for (const TensorView& tensor : right)
    if (!find(left, tensor.name)) say(tensor.name, text(kind_of(tensor), ", only in ", b.path()));
  if (differences == 0)
    std::cout << "the same " << left.size() << (left.size() == 1 ? " tensor" : " tensors")
              << ", bit for bit\n";
  else
    std::cout << differences << (differences == 1 ? " tensor differs\n" : " tensors differ\n");
  return differences == 0 ? 0 : differs;
}

int convert(const Given& given) {
  const std::string& out = given.words[1];
  const bool to_torch = out.ends_with(".pt") || out.ends_with(".pth"), to_lightning = out.ends_with(".ckpt");
  if (!to_torch && !to_lightning && !out.ends_with(".safetensors"))
    throw UsageError("what ", quoted(out),
                     " is to be is not clear: its name ends with none of .safetensors, .pt, .pth, .ckpt");
  if (!given.has("--force") && std::filesystem::exists(out))
    throw UsageError(quoted(out), " is already there; name another file, or replace it with --force");
  const WeightsFile file(given.words[0]);
  const auto tensors = file.model(given.has("--keep-names"));
  if (to_torch) {
    write_torch_file(out, tensors);
  } else if (to_lightning) {
    PlainValues values = file.progress();
    if (values.empty()) values = {{"epoch", int64_t{0}}, {"global_step", int64_t{0}}};
    write_torch_file(out, tensors, values);
  } else {
    write_safetensors(out, tensors, {{"format", "pt"}});
  }
  std::cout << "wrote " << out << ": " << tensors.size() << (tensors.size() == 1 ? " tensor, " : " tensors, ")
            << byte_size(total_bytes(tensors)) << "\n";
  return 0;
}

int verify(const Given& given) {
  const WeightsFile file(given.words[0]);
  std::cout << summary(file, file.tensors())
            << (file.has_checksums() ? "; sound, all checksums agree\n"
                                     : "; whole, but it carries no checksums to compare\n");
  return 0;
}

const Option keep_names = {"--keep-names",
                           "leave prefixes that all names have (model., module., _orig_mod.) in place"};

const std::vector<Command>& commands() {
  static const std::vector<Command> all = {
      {"inspect", {"FILE"}, "show tensors (name, type, shape, bytes) and all other values", {}, inspect},
      {"diff",
       {"A", "B"},
       "compare the models of two files, tensor by tensor (exit 0 the same, 1 different)",
       {{"--all", "compare all tensors, each by its place in the file, not the models alone"}, keep_names},
       diff},
      {"convert",
       {"IN", "OUT"},
       "write the model's tensors as OUT's ending says: .safetensors, .pt, .pth (a state dict) or .ckpt (as "
       "Lightning's)",
       {{"--force", "replace OUT if it is there"}, keep_names},
       convert},
      {"verify",
       {"FILE"},
       "read everything and compare it with its checksums (exit 65: damaged or refused)",
       {},
       verify},
  };
  return all;
}

std::string usage_of(const Command& command) {
  return text("lab_ckpt ", command.name, ' ', join(command.words, " "),
              command.options.empty() ? "" : " [options]");
}

std::string help_of(const Command& command) {
  std::string out = text("  ", usage_of(command), "\n      ", command.purpose, "\n");
  for (const Option& option : command.options) out += text("      ", option.name, "  ", option.help, "\n");
  return out;
}

std::string overview() {
  std::string out =
      "lab_ckpt shows, compares, converts and checks checkpoints (.safetensors, .ckpt, .pt).\n\n";
  for (const Command& command : commands()) out += help_of(command);
  return out + "\nNothing in a file is ever run. lab_ckpt --version prints the version.\n";
}

template <class Named>
const Named& find_named(const std::vector<Named>& all, const std::string& name, const std::string& what) {
  std::vector<std::string> names;
  for (const Named& one : all) {
    if (one.name == name) return one;
    names.push_back(one.name);
  }
  const std::string near = nearest_name(name, names);
  throw UsageError("there is no ", what, ' ', quoted(name),
                   near.empty() ? "" : text("; did you mean ", near, "?"),
                   names.empty() ? "; there is none" : "; there are: ", join(names), "; see lab_ckpt --help");
}

int run_command(const Command& command, std::span<const std::string> words) {
  Given given;
  bool options_end = false;
  for (const std::string& word : words) {
    if (word == "--help" && !options_end) {
      std::cout << help_of(command);
      return 0;
    }
    if (word == "--" && !options_end)
      options_end = true;
    else if (word.starts_with('-') && !options_end)
      given.options.insert(find_named(command.options, word, "option of " + command.name).name);
    else
      given.words.push_back(word);
  }
  if (given.words.size() != command.words.size())
    throw UsageError(command.name, " wants ", join(command.words, " and "), ", but got ", given.words.size(),
                     given.words.size() == 1 ? " word" : " words", "; usage: ", usage_of(command));
  return command.run(given);
}

int run(const std::vector<std::string>& words) {
  if (words.empty()) throw UsageError("no command was given; lab_ckpt --help lists them");
  if (words[0] == "--help" || words[0] == "-h" || words[0] == "help")
    std::cout << overview();
  else if (words[0] == "--version")
    std::cout << "lab_ckpt " << version << "\n";
  else
    return run_command(find_named(commands(), words[0], "command"), std::span(words).subspan(1));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("lab_ckpt", [&] { return run({argv + 1, argv + argc}); });
}
