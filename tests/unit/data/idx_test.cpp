#include "lab/data/idx.h"

#include <zlib.h>

#include <cstring>

#include "test_files.h"

namespace lab {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// Bytes as written in hexadecimal: "00 00 08 01".
std::string bytes(const std::string& hex) {
  std::istringstream in(hex);
  std::string out;
  for (int value = 0; in >> std::hex >> value;) out += static_cast<char>(value);
  return out;
}

struct Idx : testing::Test {
  test::TemporaryFolder folder;
  const std::string path = folder / "x-idx";
  IdxArray read(const std::string& content) {
    test::write_bytes(path, content);
    return read_idx(path);
  }
  std::string refusal(const std::string& content) {
    return test::message_of<DataError>([&] { read(content); });
  }
  void write_gzip(const std::string& content) {
    const gzFile file = gzopen(path.c_str(), "wb");
    gzwrite(file, content.data(), static_cast<unsigned>(content.size()));
    gzclose(file);
  }
};

const std::string two_images = bytes("00 00 08 03  00 00 00 02  00 00 00 01  00 00 00 03  01 02 03 04 05 06");

TEST_F(Idx, ReadsImagesPlainAndCompressed) {
  const IdxArray plain = read(two_images);
  EXPECT_EQ(plain.type, DType::u8);
  EXPECT_THAT(plain.shape, ElementsAre(2, 1, 3));
  EXPECT_EQ(plain.bytes.size(), 6u);
  EXPECT_EQ(std::memcmp(plain.bytes.data(), "\1\2\3\4\5\6", 6), 0);
  write_gzip(two_images);
  const IdxArray unpacked = read_idx(path);
  EXPECT_EQ(unpacked.shape, plain.shape);
  EXPECT_EQ(unpacked.bytes, plain.bytes);
}

TEST_F(Idx, ReadsEveryTypeInNativeOrder) {
  const auto value = [&]<class T>(T, const std::string& code, const std::string& data, DType type) {
    const IdxArray array = read(bytes("00 00 " + code + " 01 00 00 00 01 " + data));
    EXPECT_EQ(array.type, type);
    EXPECT_EQ(array.bytes.size(), sizeof(T));
    T out;
    std::memcpy(&out, array.bytes.data(), sizeof out);
    return out;
  };
  EXPECT_EQ(value(int8_t{}, "09", "ff", DType::i8), -1);
  EXPECT_EQ(value(int16_t{}, "0b", "01 02", DType::i16), 0x102);
  EXPECT_EQ(value(int32_t{}, "0c", "ff ff ff fe", DType::i32), -2);
  EXPECT_EQ(value(float{}, "0d", "3f c0 00 00", DType::f32), 1.5f);
  EXPECT_EQ(value(double{}, "0e", "c0 04 00 00 00 00 00 00", DType::f64), -2.5);
}

TEST_F(Idx, RefusesWhatIsNot) {
  for (const char* start :
       {"", "00 00 08", "00 01 08 01 00", "00 00 07 01 00 00 00 01 00", "00 00 08 00", "89 48 44 46"})
    EXPECT_THAT(refusal(bytes(start)), AllOf(HasSubstr(path), HasSubstr("not an idx file"))) << start;
  EXPECT_THAT(refusal(bytes("00 00 08 02 00 00 00 05 00")), HasSubstr("cut short within its header"));
  EXPECT_THAT(refusal(bytes("00 00 08 02 ff ff ff ff ff ff ff ff")), HasSubstr("impossible shape"));
  EXPECT_THAT(refusal(bytes("00 00 08 01 00 00 00 00")), HasSubstr("impossible shape (0)"));
  EXPECT_THROW(read_idx(folder / "absent"), InputNotFound);
}

TEST_F(Idx, RefusesMoreOrFewerBytesThanTheShapeNeeds) {
  for (size_t missing = 1; missing <= 6; ++missing)
    EXPECT_THAT(refusal(two_images.substr(0, two_images.size() - missing)),
                AllOf(HasSubstr("needs 6 bytes"), HasSubstr(text("there are ", 6 - missing))));
  EXPECT_THAT(refusal(two_images + "x"), HasSubstr("goes on after the 6 bytes"));
  // A header that promises 64 GiB does not cost them.
  EXPECT_THAT(refusal(bytes("00 00 08 02 00 01 00 00 00 10 00 00 01 02")), HasSubstr("there are 2"));
}

TEST_F(Idx, RefusesDamagedCompression) {
  write_gzip(two_images);
  const std::string whole = test::read_bytes(path);
  for (size_t size = 4; size < whole.size(); ++size) EXPECT_NE(refusal(whole.substr(0, size)), "") << size;
  for (size_t at = 10; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x55);
    EXPECT_THAT(refusal(damaged), HasSubstr("fetch it again")) << at;
  }
}

}  // namespace
}  // namespace lab
