// Files as the versions of PyTorch and Lightning really wrote them: tests/fuzz/torch_file_corpus.py made
// them, and wrote down what is in each as the Python that saved it knew it.
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <set>

#include "lab/core/error.h"
#include "lab/train/torch_file.h"
#include "train/torch_places.h"
#include "unit/temporary_folder.h"

namespace lab {
namespace {

namespace fs = std::filesystem;
using Kind = TorchValue::Kind;

const fs::path corpus = "tests/fuzz/corpus";  // ctest runs in the folder of the sources

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(folder)) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

std::string hex(uint64_t number, size_t digits) {
  std::string out(digits, '0');
  for (size_t i = digits; i-- > 0; number >>= 4) out[i] = "0123456789abcdef"[number & 15];
  return out;
}

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) out += hex(static_cast<unsigned char>(byte), 2);
  return out;
}

std::string in_short(const TensorView& tensor) {
  std::vector<std::string> sizes;
  for (const int64_t size : tensor.shape) sizes.push_back(std::to_string(size));
  const auto bytes = static_cast<size_t>(byte_count(tensor.type, tensor.shape).value());
  const auto* data = bytes ? static_cast<const Bytef*>(tensor.data) : Z_NULL;
  return text(name_of(tensor.type), " (", join(sizes), ") ", hex(bytes ? crc32_z(0, data, bytes) : 0, 8));
}

std::string leaf(const TorchValue& value) {
  switch (value.kind) {
    case Kind::tensor:
      return in_short(value.tensor());
    case Kind::real:
      return "real " + hex(std::bit_cast<uint64_t>(value.real()), 16);
    case Kind::bytes:
      return "bytes " + hex(value.text());
    case Kind::text:
      return value.text();
    default:
      return detail::in_words(value);
  }
}

// The key of a dict, as Python's str() shows it.
std::string key_name(const TorchValue& key) {
  if (key.kind == Kind::text) return key.text();
  if (key.kind != Kind::tuple) return detail::in_words(key);
  std::vector<std::string> parts;
  for (const TorchValue* item : key.items()) parts.push_back(detail::in_words(*item));
  return text('(', join(parts), ')');
}

void list_leaves(const TorchValue& value, const std::string& place, std::string& out) {
  const auto line = [&](const std::string& what) {
    std::string whole = text(place, ": ", what);
    for (size_t at; (at = whole.find('\t')) != std::string::npos;) whole.replace(at, 1, "\\t");
    out += whole + "\n";
  };
  if (!std::holds_alternative<TorchValue::Items>(value.content)) return line(leaf(value));
  const auto& items = value.items();
  if (items.empty()) line("empty");
  const bool keyed = value.kind == Kind::dict;
  for (size_t i = 0; i < items.size(); i += keyed ? 2 : 1)
    list_leaves(*items[keyed ? i + 1 : i], text(place, '/', keyed ? key_name(*items[i]) : std::to_string(i)),
                out);
}

TEST(TorchForms, FilesOfAllVersionsAreReadAsPythonKnewThem) {
  std::set<std::string> versions;
  for (const fs::path& path : files_in(corpus / "torch_file")) {
    const std::string name = path.filename();
    std::string found;
    list_leaves(TorchFile(path).root(), "", found);
    EXPECT_EQ(found, test::read_bytes(corpus / "torch_file_expected" / (name + ".txt"))) << path;
    versions.insert(name.substr(0, name.rfind(name.starts_with("torch") ? '-' : '.')));
  }
  for (const char* version : {"torch-1.13.1", "torch-2.0.1", "torch-2.1.2", "torch-2.4.1", "torch-2.6.0",
                              "torch-2.11.0", "lightning-1.9.5", "lightning-2.0.9", "lightning-2.6.6"})
    EXPECT_TRUE(versions.contains(version)) << version;
}

TEST(TorchForms, WhatIsRefusedIsNamed) {
  const std::vector<std::pair<std::string, std::string>> words = {
      {"big_endian", "its numbers are \"big\" endian"},
      {"complex", "torch.ComplexFloatStorage\", elements of a type that lab does not know"},
      {"float8", "\"torch.float8_e4m3fn\", elements of a type that lab does not know"},
      {"legacy", "before PyTorch 1.6; in Python: torch.save(torch.load(IN"},
      {"meta", "without data"},
      {"module", "\"torch.nn.modules.container.Sequential\""},
      {"negative", "the mark \"neg\""},
      {"numpy", "multiarray.scalar\""},
      {"one_cycle", "\"__builtin__.getattr\""},
      {"quantized", "tensor.dequantize()"},
      {"sparse", "tensor.to_dense()"},
  };
  std::set<std::string> seen;
  for (const fs::path& path : files_in(corpus / "torch_file_refused")) {
    const std::string stem = path.stem(), kind = stem.substr(stem.rfind('-') + 1);
    const auto expected =
        std::find_if(words.begin(), words.end(), [&](auto& one) { return one.first == kind; });
    ASSERT_NE(expected, words.end()) << path;
    seen.insert(kind);
    try {
      TorchFile{path};
      ADD_FAILURE() << path << " is read";
    } catch (const DataError& error) {
      EXPECT_NE(std::string(error.what()).find(expected->second), std::string::npos) << error.what();
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    }
  }
  EXPECT_EQ(seen.size(), words.size());
}

}  // namespace
}  // namespace lab
