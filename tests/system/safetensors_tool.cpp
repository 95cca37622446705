// Writes, reads and checks safetensors files for safetensors_test.py, which compares with Python's library.
//   safetensors_tool write FILE     one tensor of each type, of odd sizes, and some metadata
//   safetensors_tool read FILE      a line for each tensor: name, type, shape and bytes in hex; then the
//   metadata safetensors_tool verify FILE    "agrees" or "no checksums"

#include <cstdio>
#include <exception>
#include <iostream>
#include <numeric>
#include <string>
#include <vector>

#include "lab/core/error.h"
#include "lab/train/safetensors.h"

namespace {

using lab::DType;

void write(const std::string& path) {
  std::vector<unsigned char> bytes(8 * 15);
  std::iota(bytes.begin(), bytes.end(), static_cast<unsigned char>(1));
  const std::vector<unsigned char> bits = {1, 0, 1};
  const double scalar = 3.25;
  std::vector<lab::TensorView> tensors = {{"bool", DType::boolean, {3}, bits.data()}};
  for (const auto type : {DType::u8, DType::i8, DType::u16, DType::i16, DType::u32, DType::i32, DType::u64,
                          DType::i64, DType::f16, DType::bf16, DType::f32, DType::f64})
    tensors.push_back({std::string(lab::name_of(type)), type, {3, 5}, bytes.data()});
  tensors.push_back({"scalar", DType::f64, {}, &scalar});
  tensors.push_back({"nothing", DType::f32, {2, 0}, nullptr});
  tensors.push_back({"größe \"1\"", DType::u8, {1}, bytes.data()});
  lab::write_safetensors(path, tensors, {{"format", "pt"}, {"lab", R"({"epoch": 3, "name": "größe"})"}});
}

void read(const std::string& path) {
  const lab::SafetensorsFile file(path);
  for (const auto& name : file.names()) {
    const lab::TensorView& tensor = *file.find(name);
    std::cout << name << '\t' << lab::name_of(tensor.type) << '\t';
    for (const auto size : tensor.shape) std::cout << size << ' ';
    std::cout << '\t';
    const auto* bytes = static_cast<const unsigned char*>(tensor.data);
    for (int64_t i = 0; i < lab::byte_count(tensor.type, tensor.shape).value(); ++i) {
      char digits[3];
      std::snprintf(digits, sizeof digits, "%02x", bytes[i]);
      std::cout << digits;
    }
    std::cout << '\n';
  }
  for (const auto& [key, value] : file.metadata()) std::cout << "metadata\t" << key << '\t' << value << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  const std::string command = argc == 3 ? argv[1] : "";
  try {
    if (command == "write")
      write(argv[2]);
    else if (command == "read")
      read(argv[2]);
    else if (command == "verify")
      std::cout << (lab::SafetensorsFile(argv[2]).verify() ? "agrees\n" : "no checksums\n");
    else
      throw lab::UsageError("usage: safetensors_tool write|read|verify FILE");
  } catch (const lab::Error& error) {
    std::cerr << error.what() << '\n';
    return static_cast<int>(error.code());
  }
  return 0;
}
