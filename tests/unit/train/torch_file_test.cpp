#include "lab/train/torch_file.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <numeric>

#include "lab/core/error.h"
#include "unit/temporary_folder.h"

namespace lab {
namespace {

std::string letters(auto number) { return {reinterpret_cast<const char*>(&number), sizeof number}; }

struct Entry {
  std::string name, bytes;
};

// A zip archive as it should be; tests change its parts.
struct Zip {
  std::vector<Entry> entries;

  std::string bytes() const {
    std::string out, list;
    for (const Entry& entry : entries) {
      const auto size = static_cast<uint32_t>(entry.bytes.size());
      const auto* start = reinterpret_cast<const Bytef*>(entry.bytes.data());
      const std::string fields = letters(uint16_t{20}) + std::string(8, '\0') +
                                 letters(static_cast<uint32_t>(crc32_z(0, start, size))) + letters(size) +
                                 letters(size) + letters(static_cast<uint16_t>(entry.name.size()));
      list += "PK\1\2" + letters(uint16_t{20}) + fields + std::string(12, '\0') +
              letters(static_cast<uint32_t>(out.size())) + entry.name;
      out += "PK\3\4" + fields + std::string(2, '\0') + entry.name + entry.bytes;
    }
    const auto count = letters(static_cast<uint16_t>(entries.size()));
    return out + list + "PK\5\6" + std::string(4, '\0') + count + count +
           letters(static_cast<uint32_t>(list.size())) + letters(static_cast<uint32_t>(out.size())) +
           std::string(2, '\0');
  }
};

// A text without its terminating zero, zeros within included.
std::string raw(std::string_view bytes) { return std::string(bytes); }

using namespace std::string_view_literals;

const std::string storage =
    raw("X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
        "0X\3\0\0\0cpuK\6tQ"sv);  // six floats in data/0, without the mark before it

// rebuild(storage, offset, shape, strides, False, None)
std::string tensor(std::string_view offset, std::string_view shape, std::string_view strides) {
  return raw("ctorch._utils\n_rebuild_tensor_v2\n((")
      .append(storage)
      .append(offset)
      .append(shape)
      .append(strides)
      .append("\x89NtR");
}

std::string program(std::string_view body) { return raw("\x80\2"sv).append(body).append("."); }

class TorchFileTest : public testing::Test {
 protected:
  TorchFileTest() { std::iota(floats_.begin(), floats_.end(), 1.5f); }

  std::string floats() const { return {reinterpret_cast<const char*>(floats_.data()), sizeof floats_}; }

  Zip zip(const std::string& pickle) const {
    return {{{"archive/data.pkl", pickle}, {"archive/data/0", floats()}, {"archive/version", "3\n"}}};
  }

  TorchFile read(const std::string& bytes) const {
    test::write_bytes(path_, bytes);
    return TorchFile(path_);
  }
  TorchFile run(std::string_view body) const { return read(zip(program(body)).bytes()); }

  // What a file is refused with; "" when it is read.
  std::string problem(const std::string& bytes) const {
    try {
      read(bytes);
      return "";
    } catch (const DataError& error) {
      return error.what();
    }
  }
  std::string refusal(std::string_view body) const { return problem(zip(program(body)).bytes()); }

  const test::TemporaryFolder folder_;
  const std::string path_ = folder_ / "a.pt";
  std::array<float, 6> floats_{};
};

#define EXPECT_SAYS(expression, words)                                          \
  do {                                                                          \
    const std::string said = expression;                                        \
    EXPECT_NE(said.find(words), std::string::npos) << "said: " << said;         \
    EXPECT_NE(said.find(path_), std::string::npos) << "without name: " << said; \
  } while (false)

TEST_F(TorchFileTest, PlainValuesOfAllProtocols) {
  const TorchFile file =
      run("}(X\1\0\0\0aJ\xfe\xff\xff\xffX\1\0\0\0b\x88X\1\0\0\0cG\x3f\xf8\0\0\0\0\0\0\x8c\1dC\2x\xff\x8c\1eN"
          "\x8c\1f\x8a\0\x8c\1g\x8a\2\0\x80\x8c\1h\x8f(K\1K\2\x90\x8c\1i(K\1K\2K\3t\x8c\1j](K\1\x85\x65u"sv);
  EXPECT_EQ(file.root().find("a")->integer(), -2);
  EXPECT_TRUE(file.root().find("b")->boolean());
  EXPECT_EQ(file.root().find("c")->real(), 1.5);
  EXPECT_EQ(file.root().find("d")->text(), "x\xff");
  EXPECT_EQ(file.root().find("e")->kind, TorchValue::Kind::none);
  EXPECT_EQ(file.root().find("f")->integer(), 0);
  EXPECT_EQ(file.root().find("g")->integer(), -32768);
  EXPECT_EQ(file.root().find("h")->items().size(), 2u);
  EXPECT_EQ(file.root().find("i")->items().back()->integer(), 3);
  EXPECT_EQ(file.root().find("j")->items().front()->kind, TorchValue::Kind::tuple);
  EXPECT_EQ(file.root().find("k"), nullptr);
  EXPECT_TRUE(file.has_checksums());
}

TEST_F(TorchFileTest, TensorsAndViews) {
  const auto values = [&](std::string_view offset, std::string_view shape, std::string_view strides) {
    const TorchFile file = run(tensor(offset, shape, strides));
    const TensorView& view = file.root().tensor();
    std::vector<float> out(static_cast<size_t>(byte_count(view.type, view.shape).value()) / sizeof(float));
    if (!out.empty()) std::memcpy(out.data(), view.data, out.size() * sizeof(float));
    return out;
  };
  EXPECT_EQ(values("K\0"sv, "K\2K\3\x86", "K\3K\1\x86"), (std::vector<float>{1.5, 2.5, 3.5, 4.5, 5.5, 6.5}));
  EXPECT_EQ(values("K\0"sv, "K\3K\2\x86", "K\1K\3\x86"), (std::vector<float>{1.5, 4.5, 2.5, 5.5, 3.5, 6.5}));
  EXPECT_EQ(values("K\5"sv, ")", ")"), (std::vector<float>{6.5}));
  EXPECT_EQ(values("K\1"sv, "K\3\x85", "K\2\x85"), (std::vector<float>{2.5, 4.5, 6.5}));
  EXPECT_EQ(values("K\2"sv, "K\3\x85", "K\0\x85"sv), (std::vector<float>{3.5, 3.5, 3.5}));
  EXPECT_EQ(values("K\6"sv, "K\0\x85"sv, "K\1\x85"), (std::vector<float>{}));
}

TEST_F(TorchFileTest, ViewsBeyondTheirStorageAreRefused) {
  const std::string largest = raw("\x8a\10\xff\xff\xff\xff\xff\xff\xff\x7f"sv);
  for (const auto& [offset, shape, strides] : std::vector<std::array<std::string, 3>>{
           {"K\1", "K\2K\3\x86", "K\3K\1\x86"},
           {raw("K\0"sv), "K\7\x85", "K\1\x85"},
           {raw("K\0"sv), "K\2\x85", "K\6\x85"},
           {"K\6", ")", ")"},
           {"K\7", raw("K\0\x85"sv), "K\1\x85"},
           {"J\xff\xff\xff\xff", "K\1\x85", "K\1\x85"},
           {largest, "K\1\x85", "K\1\x85"},
           {raw("K\0"sv), raw("K\2\x85"sv), largest + raw("\x85"sv)},
           {raw("K\0"sv), largest + largest + raw("\x86"sv), raw("K\0K\0\x86"sv)},
           {raw("K\0"sv), "K\2\x85", "K\1K\1\x86"},
       })
    EXPECT_SAYS(refusal(tensor(offset, shape, strides)), "beyond its storage");
  EXPECT_SAYS(refusal(tensor("K\1", "J\xff\xff\xff\xff\x85", "K\1\x85")), "numbers from 0 up");
  EXPECT_SAYS(refusal(tensor(raw("K\0"sv), "J\0\0\0\x10\x85"sv, raw("K\0\x85"sv))), "many times the room");
}

TEST_F(TorchFileTest, OtherObjectsAreRefusedByName) {
  EXPECT_SAYS(refusal("cposix\nsystem\nX\2\0\0\0ls\x85R"sv), "\"posix.system\"");
  EXPECT_SAYS(refusal("\x8c\10builtins\x8c\4eval\x93"), "\"builtins.eval\"");
  EXPECT_SAYS(refusal("cargparse\nNamespace\n)\x81"), "\"argparse.Namespace\"");
  EXPECT_SAYS(refusal("cargparse\nNamespace\n)\x81"), "torch.load(IN, weights_only=False)");
  EXPECT_SAYS(refusal("ctorch\nComplexFloatStorage\n"), "ComplexFloatStorage");
  EXPECT_SAYS(refusal("(iposix\nsystem\n"), "opcode INST");
  EXPECT_SAYS(refusal("}\x81"), "opcode NEWOBJ");
  EXPECT_SAYS(refusal("\x82\1"), "opcode EXT1");
  EXPECT_SAYS(refusal("Pname\n"), "opcode PERSID");
  EXPECT_SAYS(refusal("\x97"), "opcode NEXT_BUFFER");
  EXPECT_SAYS(refusal("\x1f"), "opcode 0x1f");
}

// Each is said with the byte and the opcode where it shows.
TEST_F(TorchFileTest, UnsoundProgramsAreRefused) {
  for (const auto& [body, words] : std::vector<std::pair<std::string_view, std::string>>{
           {"", "at byte 2 of data.pkl, opcode STOP: it ends with 0 values"},
           {"NN", "it ends with 2 values"},
           {"(N", "it ends with"},
           {"0", "the stack is empty"},
           {"]N(a", "the stack is empty"},
           {"t", "no mark on the stack"},
           {"h\1", "at byte 2 of data.pkl, opcode BINGET: nothing was memorized under the number 1"},
           {"q\1", "opcode BINPUT: the stack is empty"},
           {"X\xff\xff\xff\xff", "it asks for 4294967295 bytes"},
           {"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "it asks for 18446744073709551615 bytes"},
           {"X\1\0\0\0\xff"sv, "no UTF-8"},
           {"\x8c\3\xed\xa0\x80", "no UTF-8"},
           {"}(Nu", "a key has no value"},
           {"]NNs", "but a list is there"},
           {"}Na", "but a dict is there"},
           {"](K\1\x90", "but a list is there"},
           {"NNR", "calls None"},
           {"ccollections\nOrderedDict\nNR", "calls a function with None"},
           {"ccollections\nOrderedDict\nK\1\x85R", "a list is wanted"},
           {"ccollections\nOrderedDict\n](Nee\x85R", "opcode APPENDS"},
           {"ctorch._utils\n_rebuild_tensor_v2\n)R", "a call has 0 arguments"},
           {"ctorch._utils\n_rebuild_tensor_v2\nctorch\nFloatStorage\nK\0))(tR"sv, "calls a tuple with"},
           {"NQ", "no storage"},
           {"ctorch\nFloatStorage\n", "a storage by itself"},
           {"ccollections\nOrderedDict\n\x85", "a function by itself"},
           {"\x80\2", "announces a protocol in its midst"},
           {"\x95\xff\0\0\0\0\0\0\0N"sv, "a frame has 255 bytes"},
           {"N.N", "follow behind its end"},
           {"]q\1h\1a", "contains itself"},
           {"}q\1(K\1h\1u", "contains itself"},
           {"}(X\1\0\0\0aNX\1\0\0\0aNu"sv, "the key \"a\" twice"},
           {"}(K\1NM\1\0Nu"sv, "the key 1 twice"},
           {"\x8a\11\0\0\0\0\0\0\0\0\1"sv, "too large"},
           {"c_codecs\nencode\nX\3\0\0\0\xe2\x82\xacX\6\0\0\0latin1\x86R"sv, "none of latin-1"},
           {"ctorch\ndevice\nX\2\0\0\0\33["
            "\x85R"sv,
            "is no device"},
           {"NNb", "as attributes to"},
       })
    EXPECT_SAYS(refusal(body), words);
  EXPECT_SAYS(problem(zip(raw("\x80\1N."sv)).bytes()), "protocol 1");
  EXPECT_SAYS(problem(zip("N.").bytes()), "does not begin with a protocol");
  EXPECT_SAYS(problem(zip(raw("\x80\2N"sv)).bytes()), "it asks for 1 bytes, 0 are left");
  EXPECT_SAYS(problem(zip("").bytes()), "does not begin with a protocol");
}

TEST_F(TorchFileTest, DepthAndSharingAreBounded) {
  const auto nested = [](size_t levels) {
    std::string out;
    for (size_t i = 1; i < levels; ++i) out += "](";
    out += "]";
    for (size_t i = 1; i < levels; ++i) out += "e";
    return out;
  };
  EXPECT_EQ(refusal(nested(64)), "");
  EXPECT_SAYS(refusal(nested(65)), "nested deeper");
  EXPECT_SAYS(refusal(nested(100'000)), "nested deeper");
  std::string twins = "]";  // each list holds the one before twice
  for (int i = 0; i < 40; ++i) twins += raw("q\0010](h\1h\1e"sv);
  EXPECT_SAYS(refusal(twins), "the same parts so often");
}

TEST_F(TorchFileTest, StoragesMustBeThereAndWhole) {
  Zip archive = zip(program(tensor(raw("K\0"sv), "K\6\x85", "K\1\x85")));
  archive.entries[1].bytes.pop_back();
  EXPECT_SAYS(problem(archive.bytes()), "6 elements of 4 bytes, its entry has 23 bytes");
  archive.entries.erase(archive.entries.begin() + 1);
  EXPECT_SAYS(problem(archive.bytes()), "\"data/0\" is missing");
}

TEST_F(TorchFileTest, HostileArchivesAreRefused) {
  const Zip good = zip(program("N"));
  const std::string whole = good.bytes();
  EXPECT_EQ(problem(whole), "");
  for (size_t size = 0; size < whole.size(); ++size) ASSERT_NE(problem(whole.substr(0, size)), "") << size;
  EXPECT_SAYS(problem(whole + std::string(1, 'x')), "put behind it");
  const auto with = [&](const std::string& name) {
    Zip archive = good;
    archive.entries.push_back({name, "x"});
    return problem(archive.bytes());
  };
  EXPECT_SAYS(with("archive/data/0"), "two entries");
  EXPECT_SAYS(with("archive/../x"), "leads elsewhere");
  EXPECT_SAYS(with("/x"), "not relative");
  EXPECT_SAYS(with("archive\\x"), "not relative");
  EXPECT_SAYS(with("archive/\1"), "control characters");
  EXPECT_SAYS(with("archive/\xff"), "no UTF-8");
  EXPECT_SAYS(with(""), "empty");
  EXPECT_SAYS(with("other/x"), "outside of the folder");
  EXPECT_SAYS(with("other/data.pkl"), "two saved objects");
  EXPECT_SAYS(with("archive/code/a.py"), "TorchScript");
  EXPECT_SAYS(with("archive/constants.pkl"), "TorchScript");
  EXPECT_SAYS(problem(Zip{{{"x", "y"}}}.bytes()), "no file of torch.save");
  EXPECT_SAYS(problem(raw("\x80\2\x8a\nl\xfc\x9c"sv)), "before PyTorch 1.6");
  Zip big = good;
  big.entries.push_back({"archive/byteorder", "big"});
  EXPECT_SAYS(problem(big.bytes()), "endian");
}

// One number of an archive changed.
TEST_F(TorchFileTest, DamagedArchivesAreRefused) {
  const std::string whole = zip(program("N")).bytes();
  const size_t line = whole.find("PK\1\2"), second = whole.find("PK\1\2", line + 1),
               end = whole.find("PK\5\6");
  const auto changed = [&](size_t at, std::string_view bytes) {
    std::string out = whole;
    out.replace(at, bytes.size(), bytes);
    return problem(out);
  };
  EXPECT_SAYS(changed(whole.find(floats()), "x"), "has the CRC");
  EXPECT_SAYS(changed(line + 8, "\1"), "encrypted");
  EXPECT_SAYS(changed(line + 10, "\x0e"), "neither stored nor deflated");
  EXPECT_SAYS(changed(line + 10, "\10"), "disagree");
  EXPECT_SAYS(changed(line + 20, "\xee"), "its two lengths differ");
  EXPECT_SAYS(changed(line + 20, "\xff\xff\0\0\xff\xff\0\0"sv), "it speaks of 65535 bytes");
  EXPECT_SAYS(changed(second + 42, "\0\0"sv), "disagree");
  EXPECT_SAYS(changed(second + 42, "\1"), "does not begin where it is said to");
  EXPECT_SAYS(changed(whole.find("archive/data/0"), "X"), "disagree");
  EXPECT_SAYS(changed(end + 10, "\4"), "part of several");
  EXPECT_SAYS(changed(end + 12, "\1"), "does not lie before its end");
  EXPECT_SAYS(changed(end + 16, "\1"), "does not lie before its end");
  // One entry that reaches over the next; both headers say so.
  std::string longer = whole;
  const auto size = letters(uint32_t{100});
  longer.replace(line + 20, 8, size + size).replace(18, 8, size + size);
  EXPECT_SAYS(problem(longer), "overlap");
}

TEST_F(TorchFileTest, WhatIsWrittenIsRead) {
  const std::vector<uint16_t> numbers = {1, 2, 3};
  const std::vector<TensorView> tensors = {{"w", DType::f32, {2, 3}, floats_.data()},
                                           {"größe", DType::u16, {3}, numbers.data()},
                                           {"none", DType::f64, {4, 0}, nullptr},
                                           {"scalar", DType::bf16, {}, numbers.data()}};
  write_torch_file(path_, tensors,
                   {{"epoch", int64_t{-3}}, {"on", true}, {"rate", 0.1}, {"name", std::string("x")}});
  const TorchFile file(path_);
  EXPECT_EQ(file.root().find("epoch")->integer(), -3);
  EXPECT_TRUE(file.root().find("on")->boolean());
  EXPECT_EQ(file.root().find("rate")->real(), 0.1);
  EXPECT_EQ(file.root().find("name")->text(), "x");
  const auto found = model_tensors_of(file);
  ASSERT_EQ(found.size(), tensors.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].name, tensors[i].name);
    EXPECT_EQ(found[i].type, tensors[i].type);
    EXPECT_EQ(found[i].shape, tensors[i].shape);
    const auto bytes = static_cast<size_t>(byte_count(found[i].type, found[i].shape).value());
    EXPECT_TRUE(bytes == 0 || std::memcmp(found[i].data, tensors[i].data, bytes) == 0);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(found[i].data) % 64, 0u);
  }
  const std::string first = test::read_bytes(path_);
  write_torch_file(path_, tensors,
                   {{"epoch", int64_t{-3}}, {"on", true}, {"rate", 0.1}, {"name", std::string("x")}});
  EXPECT_EQ(test::read_bytes(path_), first);
  EXPECT_FALSE(std::filesystem::exists(path_ + ".partial"));
}

TEST_F(TorchFileTest, WhatCannotBeWrittenIsABug) {
  const TensorView one{"w", DType::f32, {6}, floats_.data()};
  EXPECT_THROW(write_torch_file(path_, std::vector{one, one}), Bug);
  EXPECT_THROW(write_torch_file(path_, std::vector{one}, {{"state_dict", true}}), Bug);
  EXPECT_THROW(write_torch_file(path_, std::vector{TensorView{"\xff", DType::f32, {6}, floats_.data()}}),
               Bug);
  EXPECT_THROW(write_torch_file(path_, std::vector{TensorView{"w", DType::f32, {-1}, floats_.data()}}), Bug);
  EXPECT_THROW(write_torch_file(folder_ / "absent/a.pt", std::vector{one}), IoError);
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST(Prefixes, ThoseThatAllNamesHaveAreTakenAway) {
  using Names = std::vector<std::string>;
  for (const auto& [given, expected] : std::vector<std::pair<Names, Names>>{
           {{"model.a", "model.b.c"}, {"a", "b.c"}},
           {{"module.a", "module.b"}, {"a", "b"}},
           {{"model._orig_mod.module.a"}, {"a"}},
           {{"model.a", "head.b"}, {"model.a", "head.b"}},
           {{"net.a", "net.b"}, {"net.a", "net.b"}},
           {{"model.", "model.a"}, {"model.", "model.a"}},
           {{"models.a"}, {"models.a"}},
           {{}, {}},
       })
    EXPECT_EQ(without_common_prefixes(given), expected);
}

}  // namespace
}  // namespace lab
