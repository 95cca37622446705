// Feeds changed copies of good files to the reader of torch.save files. Whatever it is given, it must hand
// out sound values or throw DataError; a sanitizer (preset asan) sees the rest. Deterministic: the same
// corpus and number of rounds give the same files.
//
//   torch_file_fuzz CORPUS_FOLDER ROUNDS|SECONDSs [SEED]      1000: so many files; 600s: for so long
#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "lab/core/error.h"
#include "lab/train/weights_file.h"
#include "train/torch_archive.h"
#include "train/torch_objects.h"
#include "train/torch_pickle.h"
#include "train/torch_places.h"

namespace {

using namespace lab;
namespace fs = std::filesystem;

std::string read_bytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// What the changes are made of: pieces that mean something in a pickle or a zip archive.
const std::vector<std::string> words = {
    "(",
    ".",
    "0",
    "1",
    "2",
    "}",
    "]",
    ")",
    "t",
    "u",
    "s",
    "e",
    "a",
    "R",
    "Q",
    "b",
    "\x85",
    "\x86",
    "\x87",
    "\x8f",
    "\x90",
    "\x91",
    "\x93",
    "\x94",
    "q\x01",
    "h\x01",
    "h\x02",
    "K\x01",
    "M\xff\xff",
    "J\xff\xff\xff\xff",
    "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
    "X\x01",
    "PK\x01\x02",
    "PK\x03\x04",
    "PK\x05\x06",
    "PK\x06\x06",
    "cos\nsystem\n",
    "ccollections\nOrderedDict\n",
    ")R",
    "ctorch._utils\n_rebuild_tensor_v2\n",
    "ctorch\nFloatStorage\n",
    "\xff\xff\xff\xff",
    "\xff\xff\xff\xff\xff\xff\xff\x7f",
    "../",
};

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  size_t below(size_t n) { return n == 0 ? 0 : std::uniform_int_distribution<size_t>(0, n - 1)(random_); }

  std::string changed(std::string bytes, const std::string& other) {
    for (size_t changes = size_t{1} << below(4); changes > 0; --changes) change(bytes, other);
    return bytes;
  }

 private:
  void change(std::string& bytes, const std::string& other) {
    const size_t at = below(bytes.size() + 1), length = std::min(bytes.size() - at, size_t{1} << below(7));
    switch (below(7)) {
      case 0:
        if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
        break;
      case 1:
        if (at < bytes.size()) bytes[at] = static_cast<char>(below(256));
        break;
      case 2:
        bytes.erase(at, length);
        break;
      case 3:
        bytes.insert(at, std::string(bytes, at, length));
        break;
      case 4:
        bytes.insert(at, words[below(words.size())]);
        break;
      case 5: {
        const std::string& word = words[below(words.size())];
        bytes.replace(at, std::min(word.size(), bytes.size() - at), word);
        break;
      }
      default:
        bytes.insert(at, other.substr(below(other.size() + 1), length));
    }
  }

  std::mt19937_64 random_;
};

// Reads every byte that the values point to.
uint64_t touch(const TorchValue& root) {
  uint64_t sum = 0;
  detail::visit_places(root, [&](const std::string& place, const TorchValue& value) {
    sum += place.size() + detail::in_words(value).size();
    if (value.kind != TorchValue::Kind::tensor) return;
    const auto bytes = static_cast<size_t>(byte_count(value.tensor().type, value.tensor().shape).value());
    for (size_t i = 0; i < bytes; ++i)
      sum += static_cast<uint64_t>(static_cast<const std::byte*>(value.tensor().data)[i]);
  });
  return sum;
}

struct Tally {
  uint64_t rounds = 0, read = 0, refused = 0, sum = 0;

  template <class Reading>
  void count(const Reading& reading) {
    ++rounds;
    try {
      sum += reading();
      ++read;
    } catch (const DataError&) {
      ++refused;
    }
  }
};

// The whole file, changed anywhere.
uint64_t read_file(const std::string& bytes, const fs::path& scratch) {
  std::ofstream(scratch, std::ios::binary | std::ios::trunc) << bytes;
  const TorchFile file(scratch);
  uint64_t sum = touch(file.root());
  for (const TensorView& tensor : model_tensors_of(file)) sum += tensor.name.size();
  return sum;
}

// Its pickle alone, so that no checksum stands before the machine.
uint64_t read_pickle(const std::string& program, const std::string& whole,
                     const detail::TorchArchive& archive) {
  const auto storage = [&](const std::string& key) {
    const auto found = archive.entries.find("data/" + key);
    if (found == archive.entries.end()) throw DataError("no entry ", quoted(key));
    return found->second;
  };
  detail::TorchObjects objects(storage, whole.size());
  return touch(*detail::run_pickle(std::as_bytes(std::span(program)), objects));
}

int fuzz(const std::string& folder, const std::string& limit, uint64_t seed) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> files, programs;
  for (const auto& path : paths) files.push_back(read_bytes(path));
  std::vector<detail::TorchArchive> archives;
  for (const auto& file : files) {
    archives.push_back(detail::read_torch_archive(std::as_bytes(std::span(file))));
    const auto program = archives.back().entries.at("data.pkl");
    programs.emplace_back(reinterpret_cast<const char*>(program.data()), program.size());
  }
  const fs::path scratch =
      fs::temp_directory_path() / text("torch_file_fuzz.", std::random_device()(), ".pt");
  const auto begin = std::chrono::steady_clock::now();
  const double most = std::stod(limit);
  Mutator mutator(seed);
  Tally tally;
  const auto more = [&] {
    if (!limit.ends_with('s')) return static_cast<double>(tally.rounds) < most;
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < most;
  };
  for (size_t i = 0; i < files.size(); ++i) {  // unchanged, all of them are fine
    touch(TorchFile(paths[i]).root());
    read_pickle(programs[i], files[i], archives[i]);
  }
  while (more()) {
    const size_t i = mutator.below(files.size()), other = mutator.below(files.size());
    if (mutator.below(4) == 0) {
      const std::string bytes = mutator.changed(files[i], files[other]);
      tally.count([&] { return read_file(bytes, scratch); });
    } else {
      const std::string program = mutator.changed(programs[i], programs[other]);
      tally.count([&] { return read_pickle(program, files[i], archives[i]); });
    }
  }
  fs::remove(scratch);
  std::cout << tally.rounds << " files: " << tally.read << " read, " << tally.refused << " refused (sum "
            << tally.sum << ")\n";
  return tally.read > 0 && tally.refused > 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "torch_file_fuzz CORPUS_FOLDER ROUNDS|SECONDSs [SEED]\n";
    return 64;
  }
  return fuzz(argv[1], argv[2], argc > 3 ? std::stoull(argv[3]) : 1);
}
