#include "lab/train/safetensors.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <random>

#include "lab/core/error.h"
#include "unit/temporary_folder.h"

namespace lab {
namespace {

namespace fs = std::filesystem;

constexpr auto all_types = {DType::u8,  DType::i8,  DType::u16,    DType::i16, DType::u32,
                            DType::i32, DType::u64, DType::i64,    DType::f16, DType::bf16,
                            DType::f32, DType::f64, DType::boolean};

class SafetensorsTest : public testing::Test {
 protected:
  SafetensorsTest() : floats_(6), bytes_(7) {
    std::iota(floats_.begin(), floats_.end(), 0.5f);
    std::iota(bytes_.begin(), bytes_.end(), uint8_t{250});
  }
  std::vector<TensorView> tensors() const {
    return {{"mask", DType::u8, {7}, bytes_.data()}, {"weight", DType::f32, {2, 3}, floats_.data()}};
  }

  std::string content() const { return test::read_bytes(path_); }
  void put(const std::string& bytes) const {
    fs::remove(path_);  // file systems bring a file that is cut and written again to the disk: slow
    std::ofstream(path_, std::ios::binary | std::ios::trunc).write(bytes.data(), std::ssize(bytes));
  }
  // A file with this header and so many bytes of data.
  void put(const std::string& header, size_t data_bytes) const {
    const uint64_t length = header.size();
    put(std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data_bytes, '\1'));
  }
  size_t files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  // "" when the file can be read and verified, else what is wrong with it.
  std::string problem() const {
    try {
      SafetensorsFile(path_).verify();
      return "";
    } catch (const DataError& error) {
      return error.what();
    }
  }

  const test::TemporaryFolder temporary_;
  const std::string folder_ = temporary_.path(), path_ = folder_ + "/a.safetensors";
  std::vector<float> floats_;
  std::vector<uint8_t> bytes_;
};

TEST_F(SafetensorsTest, WhatIsWrittenIsRead) {
  write_safetensors(path_, tensors(), {{"format", "pt"}, {"lab", R"({"epoch":3})"}});
  const SafetensorsFile file(path_);
  EXPECT_EQ(file.names(), (std::vector<std::string>{"mask", "weight"}));
  ASSERT_NE(file.find("weight"), nullptr);
  EXPECT_EQ(file.find("weight")->type, DType::f32);
  EXPECT_EQ(file.find("weight")->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(file.find("weight")->data, floats_.data(), 24), 0);
  EXPECT_EQ(std::memcmp(file.find("mask")->data, bytes_.data(), 7), 0);
  EXPECT_EQ(file.find("bias"), nullptr);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.metadata().at("lab"), R"({"epoch":3})");
  EXPECT_TRUE(file.verify());
  EXPECT_EQ(files(), 1u);
}

TEST_F(SafetensorsTest, EveryTypeComesBack) {
  std::vector<TensorView> written;
  const std::vector<std::byte> bytes(8 * 3, std::byte{1});
  for (const DType type : all_types) written.push_back({std::string(name_of(type)), type, {3}, bytes.data()});
  write_safetensors(path_, written);
  const SafetensorsFile file(path_);
  ASSERT_EQ(file.names().size(), all_types.size());
  for (const DType type : all_types) {
    const TensorView* found = file.find(std::string(name_of(type)));
    ASSERT_NE(found, nullptr) << name_of(type);
    EXPECT_EQ(found->type, type);
    EXPECT_EQ(std::memcmp(found->data, bytes.data(), 3 * static_cast<size_t>(size_of(type))), 0);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(found->data) % static_cast<uintptr_t>(size_of(type)), 0u)
        << name_of(type);
  }
}

TEST_F(SafetensorsTest, ScalarsEmptyTensorsAndEmptyFilesAreFine) {
  const double pi = 3.25;
  write_safetensors(
      path_, std::vector<TensorView>{{"none", DType::f32, {4, 0, 2}, nullptr}, {"pi", DType::f64, {}, &pi}});
  const SafetensorsFile file(path_);
  EXPECT_EQ(file.find("none")->shape, (std::vector<int64_t>{4, 0, 2}));
  EXPECT_EQ(*static_cast<const double*>(file.find("pi")->data), 3.25);
  EXPECT_TRUE(file.find("pi")->shape.empty());
  EXPECT_TRUE(file.verify());
  write_safetensors(path_, {});
  EXPECT_TRUE(SafetensorsFile(path_).names().empty());
  EXPECT_TRUE(SafetensorsFile(path_).verify());
}

TEST_F(SafetensorsTest, TheSameInputGivesTheSameBytes) {
  write_safetensors(path_, tensors(), {{"b", "2"}, {"a", "1"}});
  const std::string first = content();
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, first.data(), 8);
  EXPECT_EQ((8 + header_bytes) % 64, 0u);
  EXPECT_EQ(first.size(), 8 + header_bytes + 24 + 7);
  // The wider type lies first, whatever the order of the names.
  EXPECT_EQ(std::memcmp(first.data() + 8 + header_bytes, floats_.data(), 24), 0);
  write_safetensors(path_, tensors(), {{"a", "1"}, {"b", "2"}});
  EXPECT_EQ(content(), first);
}

TEST_F(SafetensorsTest, AViewOutlivesTheFileItCameFromWhileACopyIsThere) {
  write_safetensors(path_, tensors());
  auto file = std::make_unique<SafetensorsFile>(path_);
  const SafetensorsFile copy = *file;
  file.reset();
  EXPECT_EQ(std::memcmp(copy.find("weight")->data, floats_.data(), 24), 0);
}

TEST_F(SafetensorsTest, NamesAndTextsMayBeAnyUtf8) {
  const std::string odd = "gewicht \"ä\"\n\\ \x01 日本";
  write_safetensors(path_, std::vector<TensorView>{{odd, DType::u8, {7}, bytes_.data()}}, {{odd, odd}});
  const SafetensorsFile file(path_);
  EXPECT_NE(file.find(odd), nullptr);
  EXPECT_EQ(file.metadata().at(odd), odd);
  EXPECT_TRUE(file.verify());
}

TEST_F(SafetensorsTest, WhatNoFileCanHoldIsRefused) {
  const auto write = [&](std::vector<TensorView> tensors, std::map<std::string, std::string> metadata = {}) {
    write_safetensors(path_, tensors, metadata);
  };
  const TensorView good{"a", DType::u8, {7}, bytes_.data()};
  EXPECT_THROW(write({good, good}), Bug);
  EXPECT_THROW(write({{"__metadata__", DType::u8, {7}, bytes_.data()}}), Bug);
  EXPECT_THROW(write({{"a", DType::u8, {-1}, bytes_.data()}}), Bug);
  EXPECT_THROW(write({{"a", DType::f64, {int64_t{1} << 40, int64_t{1} << 40}, bytes_.data()}}), Bug);
  EXPECT_THROW(write({{"a\xff", DType::u8, {7}, bytes_.data()}}), Bug);
  EXPECT_THROW(write({good}, {{"k", "\xff"}}), Bug);
  EXPECT_EQ(files(), 0u);
}

TEST_F(SafetensorsTest, AFileOfAnotherWriterHasNoChecksums) {
  put(R"( {"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})", 4);
  EXPECT_NE(problem(), "");  // the format wants '{' first
  put(R"({"b":{"dtype":"U8","shape":[],"data_offsets":[4,5]},"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}  )",
      5);
  const SafetensorsFile file(path_);
  EXPECT_FALSE(file.verify());
  EXPECT_EQ(file.names(), (std::vector<std::string>{"b", "a"}));
  EXPECT_EQ(file.find("a")->type, DType::f16);
}

TEST_F(SafetensorsTest, AMissingFileIsAnInputNotFound) {
  EXPECT_THROW(SafetensorsFile(folder_ + "/none"), InputNotFound);
  EXPECT_THROW(SafetensorsFile{folder_}, InputNotFound);
  mkfifo(path_.c_str(), 0600);
  EXPECT_THROW(SafetensorsFile{path_}, InputNotFound);
}

TEST_F(SafetensorsTest, HeadersThatLieAreRefused) {
  const auto one = [](const std::string& entry) { return "{\"a\":" + entry + "}"; };
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  const struct {
    std::string header, reason;
  } cases[] = {
      {"", "begin with '{'"},
      {"[]", "begin with '{'"},
      {"{\"a\":", "no JSON"},
      {"{} {}", "no JSON"},
      {"{\"a\xff\":1}", "no JSON"},
      {one("1e999"), "no JSON"},
      {one("1"), "not a table"},
      {one("null"), "not a table"},
      {one(deep), "nested deeper"},
      {"{\"__metadata__\":3}", "metadata is not a table"},
      {R"({"__metadata__":{"a":3}})", "metadata \"a\" is not a text"},
      {one(R"({"shape":[8],"data_offsets":[0,8]})"), "tensor \"a\": dtype is missing"},
      {one(R"({"dtype":8,"shape":[8],"data_offsets":[0,8]})"), "dtype is missing or of another kind"},
      {one(R"({"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]})"), "\"F8_E4M3\" are unknown"},
      {one(R"({"dtype":"U8","data_offsets":[0,8]})"), "shape is missing"},
      {one(R"({"dtype":"U8","shape":8,"data_offsets":[0,8]})"), "shape is missing or of another kind"},
      {one(R"({"dtype":"U8","shape":[-8],"data_offsets":[0,8]})"), "an element of shape"},
      {one(R"({"dtype":"U8","shape":[8.0],"data_offsets":[0,8]})"), "an element of shape"},
      {one(R"({"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,8]})"), "an element of shape"},
      {one(R"({"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,8]})"), "asks for too many"},
      {one(R"({"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,8]})"), "asks for too many"},
      {one(R"({"dtype":"U8","shape":[8]})"), "data_offsets is missing"},
      {one(R"({"dtype":"U8","shape":[8],"data_offsets":[8]})"), "has 1 elements"},
      {one(R"({"dtype":"U8","shape":[8],"data_offsets":[0,8,8]})"), "has 3 elements"},
      {one(R"({"dtype":"U8","shape":[8],"data_offsets":[8,0]})"), "bytes 8 to 0"},
      {one(R"({"dtype":"U8","shape":[9],"data_offsets":[0,9]})"), "bytes 0 to 9"},
      {one(R"({"dtype":"U8","shape":[8],"data_offsets":[0,18446744073709551615]})"),
       "an element of data_offsets"},
      {one(R"({"dtype":"U16","shape":[8],"data_offsets":[0,8]})"), "asks for 16 bytes, data_offsets for 8"},
      {one(R"({"dtype":"U8","shape":[7],"data_offsets":[0,7]})"), "take 7 bytes, 8 are there"},
      {one(R"({"dtype":"U8","shape":[7],"data_offsets":[1,8]})"), "gap at byte 0"},
      {one(R"({"dtype":"U8","shape":[8],"data_offsets":[0,8],"dtype":"I8"})"), "\"dtype\" twice"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
       "\"a\" twice"},
      {R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})",
       "overlap"},
      {R"({"__metadata__":{},"__metadata__":{},"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})",
       "twice"},
  };
  for (const auto& [header, reason] : cases) {
    put(header, 8);
    EXPECT_NE(problem().find(reason), std::string::npos) << header.substr(0, 200) << "\n" << problem();
    EXPECT_NE(problem().find(path_), std::string::npos);
    EXPECT_LT(problem().size(), 1000u);
  }
  put(one(R"({"dtype":"U8","shape":[8],"data_offsets":[0,8]})"), 8);
  EXPECT_EQ(problem(), "");
}

TEST_F(SafetensorsTest, LengthsThatLieAreRefused) {
  for (const uint64_t length :
       {uint64_t{3}, uint64_t{100'000'001}, uint64_t{1} << 40, UINT64_MAX, UINT64_MAX - 7}) {
    put(std::string(reinterpret_cast<const char*>(&length), 8) + "{}");
    EXPECT_NE(problem().find("announce a header of " + text(length)), std::string::npos) << problem();
  }
}

TEST_F(SafetensorsTest, EveryFlippedBitIsFound) {
  write_safetensors(path_, tensors(), {{"lab", R"({"epoch":3,"name":"x"})"}});
  const std::string good = content();
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    put(bad);
    ASSERT_NE(problem(), "") << "bit " << bit % 8 << " of byte " << bit / 8;
  }
}

TEST_F(SafetensorsTest, AFlipInDataNamesTheTensorAndBothChecksums) {
  write_safetensors(path_, tensors());
  std::string bytes = content();
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  put(bytes);
  EXPECT_EQ(SafetensorsFile(path_).names().size(), 2u);  // reading alone does not check
  const std::string expected = checksum(std::as_bytes(std::span(bytes_)));
  bytes_.back() ^= 1;
  const std::string actual = checksum(std::as_bytes(std::span(bytes_)));
  EXPECT_NE(
      problem().find("tensor \"mask\" has the checksum " + actual + ", \"" + expected + "\" was written"),
      std::string::npos)
      << problem();
}

TEST_F(SafetensorsTest, EveryTruncationIsFound) {
  write_safetensors(path_, tensors());
  const std::string good = content();
  for (size_t length = 0; length < good.size(); ++length) {
    put(good.substr(0, length));
    ASSERT_NE(problem(), "") << length << " bytes of " << good.size();
  }
  put(good + '\0');
  EXPECT_NE(problem(), "");
}

TEST_F(SafetensorsTest, RandomDamageNeverPasses) {
  write_safetensors(path_, tensors(), {{"lab", "{}"}});
  const std::string good = content();
  std::mt19937 random(1);
  const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
  for (int round = 0; round < 3000; ++round) {
    std::string bad = good;
    for (size_t changes = 1 + below(8); changes > 0; --changes) {
      const size_t at = below(bad.size());
      switch (below(3)) {
        case 0:
          bad[at] = static_cast<char>(below(256));
          break;
        case 1:
          bad.erase(at, 1 + below(5));
          break;
        default:
          bad.insert(at, bad.substr(below(bad.size()), 1 + below(30)));
      }
    }
    if (bad == good) continue;
    put(bad);
    ASSERT_NE(problem(), "") << "round " << round;
  }
}

TEST_F(SafetensorsTest, ChecksumsOfAnEarlierStateAreFound) {
  // What another program leaves that changes a tensor and hands the metadata on.
  write_safetensors(path_, tensors());
  const std::string sums = SafetensorsFile(path_).metadata().at("lab.checksums");
  put(R"({"__metadata__":{"lab.header":"0123456789abcdef"},"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})",
      8);
  EXPECT_NE(problem().find("one of its checksums is gone"), std::string::npos) << problem();
  put(R"({"__metadata__":{"lab.checksums":"{}"},"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})", 8);
  EXPECT_NE(problem().find("one of its checksums is gone"), std::string::npos) << problem();
  put(R"({"__metadata__":{"lab.checksums":"{}","lab.header":"0123456789abcdef"}})", 0);
  EXPECT_NE(problem().find("does not begin as lab writes it"), std::string::npos) << problem();
}

TEST_F(SafetensorsTest, AFailedWriteLeavesTheOldFileAndNothingElse) {
  write_safetensors(path_, tensors());
  const std::string before = content();
  signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit{};
  getrlimit(RLIMIT_FSIZE, &old_limit);
  const std::vector<double> big(1000, 1.0);
  // The disk is full at each point of the write: in the header, in an array, at its very end.
  for (const rlim_t room : {0u, 5u, 100u, 1000u, 8000u, 8191u}) {
    const rlimit limit{room, old_limit.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    std::string message;
    try {
      write_safetensors(path_, std::vector<TensorView>{{"big", DType::f64, {1000}, big.data()}});
    } catch (const IoError& error) {
      message = error.what();
    }
    setrlimit(RLIMIT_FSIZE, &old_limit);
    EXPECT_NE(message.find(path_), std::string::npos) << room << " " << message;
    EXPECT_NE(message.find("File too large"), std::string::npos) << message;
    EXPECT_TRUE(content() == before) << room;
    EXPECT_EQ(files(), 1u);
  }
  write_safetensors(path_, std::vector<TensorView>{{"big", DType::f64, {1000}, big.data()}});
  EXPECT_TRUE(SafetensorsFile(path_).verify());
}

TEST_F(SafetensorsTest, APlaceThatCannotBeWrittenIsAnIoError) {
  EXPECT_THROW(write_safetensors(folder_ + "/none/a.safetensors", tensors()), IoError);
  fs::create_directories(path_ + "/in the way");
  EXPECT_THROW(write_safetensors(path_, tensors()), IoError);
  EXPECT_EQ(files(), 1u);
}

TEST_F(SafetensorsTest, WhatAKilledWriterLeftIsReplaced) {
  std::ofstream(path_ + ".partial") << std::string(100000, 'x');
  write_safetensors(path_, tensors());
  EXPECT_EQ(files(), 1u);
  EXPECT_TRUE(SafetensorsFile(path_).verify());
}

TEST(Checksum, IsXxh3) {
  // From the reference implementation.
  EXPECT_EQ(checksum({}), "2d06800538d394c2");
  EXPECT_EQ(checksum(std::as_bytes(std::span("a", 1))), "e6c632b61e964e1f");
}

TEST(ByteCount, SeesOverflowAndNegativeSizes) {
  EXPECT_EQ(byte_count(DType::f32, {}), 4);
  EXPECT_EQ(byte_count(DType::f64, std::vector<int64_t>{3, 5}), 120);
  EXPECT_EQ(byte_count(DType::u8, std::vector<int64_t>{0}), 0);
  EXPECT_EQ(byte_count(DType::u8, std::vector<int64_t>{INT64_MAX}), INT64_MAX);
  EXPECT_EQ(byte_count(DType::u16, std::vector<int64_t>{INT64_MAX}), std::nullopt);
  EXPECT_EQ(byte_count(DType::u8, std::vector<int64_t>{-1}), std::nullopt);
}

}  // namespace
}  // namespace lab
