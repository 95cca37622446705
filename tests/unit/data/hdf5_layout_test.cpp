#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>

#include "lab/data/layout.h"
#include "test_files.h"

namespace lab {
namespace {

using test::add_dataset;
using test::add_u8;
using test::NewFile;
using test::numbers;
using test::Storage;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Hdf5Layout : testing::Test {
  test::TemporaryFolder folder;
  const std::string path = folder / "x.h5";

  // What refuses the file that `write` makes; it must hold the path of the file and the name of the dataset.
  std::string refusal(const std::function<void(const NewFile&)>& write) {
    {
      const NewFile file(path);
      write(file);
    }
    const std::string message = test::message_of<DataError>([&] { read_layout(path); });
    EXPECT_THAT(message, HasSubstr(path));
    EXPECT_THAT(message, HasSubstr("'images'"));
    return message;
  }
};

TEST_F(Hdf5Layout, FindsContiguousData) {
  const auto images = numbers<uint8_t>(24);
  {
    const NewFile file(path);
    add_u8(file, "images", {4, 2, 3}, images);
    add_u8(file, "labels", {4}, {9, 8, 7, 6});
  }
  const FileLayout layout = read_layout(path);
  EXPECT_EQ(layout.path, path);
  EXPECT_EQ(layout.file_bytes, std::filesystem::file_size(path));
  ASSERT_EQ(layout.fields.size(), 2u);
  const FieldLayout& field = layout.field("images");
  EXPECT_EQ(field.type, DType::u8);
  EXPECT_FALSE(field.big_endian);
  EXPECT_THAT(field.shape, ElementsAre(4, 2, 3));
  EXPECT_EQ(field.samples(), 4);
  EXPECT_THAT(field.chunk_shape, IsEmpty());
  EXPECT_EQ(test::read_bytes(path).substr(field.offset, 24), std::string(images.begin(), images.end()));
  EXPECT_EQ(test::read_bytes(path).substr(layout.field("labels").offset, 4), "\x09\x08\x07\x06");
}

TEST_F(Hdf5Layout, FindsChunksAndTheirFilters) {
  {
    const NewFile file(path);
    add_u8(file, "images", {5, 4}, numbers<uint8_t>(20),
           {.chunks = {2, 3}, .shuffle = true, .deflate = true, .fletcher32 = true});
  }
  const FieldLayout field = read_layout(path).field("images");
  EXPECT_THAT(field.chunk_shape, ElementsAre(2, 3));
  EXPECT_THAT(field.filters, ElementsAre(Filter::shuffle, Filter::deflate, Filter::fletcher32));
  EXPECT_EQ(field.chunks.size(), 6u);
  for (const Chunk& chunk : field.chunks) {
    EXPECT_GT(chunk.bytes, 0u);
    EXPECT_EQ(chunk.filter_mask, 0u);
  }
}

TEST_F(Hdf5Layout, KnowsTheElementTypes) {
  const hid_t half = H5Tcopy(H5T_IEEE_F32LE);
  H5Tset_fields(half, 15, 10, 5, 0, 10);
  H5Tset_size(half, 2);
  H5Tset_ebias(half, 15);
  const hid_t boolean = H5Tenum_create(H5T_STD_I8LE), colour = H5Tenum_create(H5T_STD_I16BE);
  const int8_t no = 0, yes = 1;
  H5Tenum_insert(boolean, "FALSE", &no);
  H5Tenum_insert(boolean, "TRUE", &yes);
  const int16_t red = 1;
  H5Tenum_insert(colour, "RED", &red);
  struct Case {
    hid_t file_type;
    DType type;
    bool big_endian;
  };
  const std::vector<Case> cases = {
      {H5T_STD_U8LE, DType::u8, false},    {H5T_STD_I8BE, DType::i8, false},
      {H5T_STD_U16LE, DType::u16, false},  {H5T_STD_I16BE, DType::i16, true},
      {H5T_STD_U32BE, DType::u32, true},   {H5T_STD_I32LE, DType::i32, false},
      {H5T_STD_U64LE, DType::u64, false},  {H5T_STD_I64BE, DType::i64, true},
      {H5T_IEEE_F32LE, DType::f32, false}, {H5T_IEEE_F32BE, DType::f32, true},
      {H5T_IEEE_F64LE, DType::f64, false}, {H5T_IEEE_F64BE, DType::f64, true},
      {half, DType::f16, false},           {boolean, DType::boolean, false},
      {colour, DType::i16, true},
  };
  const std::vector<std::byte> zeros(64);
  for (const Case& c : cases) {
    {
      const NewFile file(path);
      add_dataset(file, "x", c.file_type, c.file_type, {3}, zeros.data());
    }
    const FieldLayout field = read_layout(path).field("x");
    EXPECT_EQ(field.type, c.type) << name_of(c.type);
    EXPECT_EQ(field.big_endian, c.big_endian) << name_of(c.type);
  }
  for (const hid_t type : {half, boolean, colour}) H5Tclose(type);
}

TEST_F(Hdf5Layout, SkipsMetadata) {
  {
    const NewFile file(path);
    add_u8(file, "images", {4}, numbers<uint8_t>(4));
    const hid_t text = H5Tcopy(H5T_C_S1), scalar = H5Screate(H5S_SCALAR), null = H5Screate(H5S_NULL);
    H5Tset_size(text, H5T_VARIABLE);
    const char* words[] = {"a", "b"};
    add_dataset(file, "names", text, text, {2}, words);
    H5Dclose(H5Dcreate2(file.id, "version", H5T_STD_I32LE, scalar, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Dclose(H5Dcreate2(file.id, "nothing", H5T_STD_I32LE, null, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Gclose(H5Gcreate2(file.id, "group", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Tclose(text);
    H5Sclose(scalar);
    H5Sclose(null);
  }
  const FileLayout layout = read_layout(path);
  ASSERT_EQ(layout.fields.size(), 1u);
  EXPECT_EQ(layout.fields.front().name, "images");
}

TEST_F(Hdf5Layout, RefusesDataInOtherFiles) {
  EXPECT_THAT(refusal([](const NewFile& file) {
                add_dataset(
                    file, "images", H5T_STD_U8LE, H5T_NATIVE_UINT8, {4}, nullptr,
                    {.change = [](hid_t creation) { H5Pset_external(creation, "/etc/passwd", 0, 4); }});
              }),
              HasSubstr("external storage"));
  EXPECT_THAT(refusal([](const NewFile& file) {
                H5Lcreate_external("other.h5", "/images", file.id, "images", H5P_DEFAULT, H5P_DEFAULT);
              }),
              HasSubstr("an external link"));
  EXPECT_THAT(refusal([](const NewFile& file) {
                add_dataset(file, "images", H5T_STD_U8LE, H5T_NATIVE_UINT8, {4}, nullptr,
                            {.change = [](hid_t creation) {
                              const hsize_t extent = 4;
                              const hid_t space = H5Screate_simple(1, &extent, nullptr);
                              H5Pset_virtual(creation, space, "other.h5", "images", space);
                              H5Sclose(space);
                            }});
              }),
              HasSubstr("virtual dataset"));
}

TEST_F(Hdf5Layout, RefusesSoftLinks) {
  EXPECT_THAT(refusal([](const NewFile& file) {
                add_u8(file, "data", {4}, numbers<uint8_t>(4));
                H5Lcreate_soft("/data", file.id, "images", H5P_DEFAULT, H5P_DEFAULT);
              }),
              HasSubstr("a soft link"));
}

TEST_F(Hdf5Layout, RefusesTypesThatAreNoNumbers) {
  const hsize_t two = 2;
  const hid_t compound = H5Tcreate(H5T_COMPOUND, 4), sequence = H5Tvlen_create(H5T_NATIVE_INT);
  const hid_t array = H5Tarray_create2(H5T_NATIVE_INT, 1, &two), opaque = H5Tcreate(H5T_OPAQUE, 4);
  const hid_t odd = H5Tcopy(H5T_STD_I32LE), wide = H5Tcopy(H5T_NATIVE_LDOUBLE);
  H5Tset_precision(odd, 20);
  H5Tinsert(compound, "x", 0, H5T_NATIVE_INT);
  const std::vector<std::pair<hid_t, const char*>> cases = {
      {compound, "compound"}, {sequence, "variable-length sequence"},
      {array, "array"},       {opaque, "opaque"},
      {odd, "20 bits"},       {H5T_STD_REF_OBJ, "reference"},
      {wide, "128 bits"},     {H5T_STD_B8LE, "bit field"},
  };
  for (const auto& [type, name] : cases)
    EXPECT_THAT(refusal([&](const NewFile& file) { add_dataset(file, "images", type, type, {3}, nullptr); }),
                AllOf(HasSubstr(name), HasSubstr("not supported")));
  for (const hid_t type : {compound, sequence, array, opaque, odd, wide}) H5Tclose(type);
}

TEST_F(Hdf5Layout, RefusesOtherFiltersByName) {
  EXPECT_THAT(refusal([](const NewFile& file) {
                add_u8(file, "images", {4}, numbers<uint8_t>(4),
                       {.chunks = {4},
                        .change = [](hid_t creation) { H5Pset_scaleoffset(creation, H5Z_SO_INT, 0); }});
              }),
              AllOf(HasSubstr("scaleoffset"), HasSubstr("h5repack")));
  EXPECT_THAT(refusal([](const NewFile& file) {
                add_u8(file, "images", {4}, numbers<uint8_t>(4),
                       {.chunks = {4}, .deflate = true, .change = [](hid_t creation) {
                          H5Pset_deflate(creation, 1);
                        }});
              }),
              HasSubstr("same filter twice"));
}

TEST_F(Hdf5Layout, RefusesStorageThatPlainReadsCannotFollow) {
  EXPECT_THAT(refusal([](const NewFile& file) {
                add_u8(file, "images", {4}, numbers<uint8_t>(4),
                       {.change = [](hid_t creation) { H5Pset_layout(creation, H5D_COMPACT); }});
              }),
              HasSubstr("compact"));
  EXPECT_THAT(refusal([](const NewFile& file) {
                add_dataset(file, "images", H5T_STD_U8LE, H5T_NATIVE_UINT8, {4}, nullptr);
              }),
              HasSubstr("never written"));
  EXPECT_THAT(refusal([](const NewFile& file) {
                add_u8(file, "images", {5}, numbers<uint8_t>(5),
                       {.chunks = {4}, .deflate = true, .change = [](hid_t creation) {
                          H5Pset_chunk_opts(creation, H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS);
                        }});
              }),
              HasSubstr("partial edge chunks"));
  EXPECT_THAT(refusal([](const NewFile& file) {
                add_u8(file, "images", {2, 0}, {}, {.chunks = {1, 1}, .most = {2, 1}});
              }),
              HasSubstr("samples are empty"));
}

TEST_F(Hdf5Layout, RefusesPromisesThatTheFileCannotKeep) {
  EXPECT_THAT(refusal([](const NewFile& file) {
                add_dataset(file, "images", H5T_STD_U8LE, H5T_NATIVE_UINT8, {1 << 30, 1 << 20}, nullptr,
                            {.chunks = {1 << 20, 1 << 9}});
              }),
              HasSubstr("more than 50000 chunks"));
  EXPECT_THAT(refusal([](const NewFile& file) {
                add_dataset(file, "images", H5T_STD_U8LE, H5T_NATIVE_UINT8, {1 << 30, 1 << 10}, nullptr,
                            {.chunks = {1 << 20, 1 << 10}});
              }),
              HasSubstr("only 0 B of it were ever written"));
  EXPECT_THAT(refusal([](const NewFile& file) {
                add_dataset(file, "images", H5T_STD_U8LE, H5T_NATIVE_UINT8, {1 << 30, 1 << 10}, nullptr,
                            {.chunks = {1 << 21, 1 << 10}});
              }),
              HasSubstr("more than 1.0 GiB"));
}

TEST_F(Hdf5Layout, ChunksThatWereNeverWrittenMustStandForZeros) {
  const auto one_row_of_two = [](uint8_t fill) {
    return [fill](const NewFile& file) {
      const hsize_t two[] = {2, 4}, start[] = {0, 0}, one[] = {1, 4};
      add_dataset(file, "images", H5T_STD_U8LE, H5T_NATIVE_UINT8, {2, 4}, nullptr,
                  {.chunks = {1, 4}, .change = [fill](hid_t creation) {
                     H5Pset_fill_value(creation, H5T_NATIVE_UINT8, &fill);
                   }});
      const hid_t dataset = H5Dopen2(file.id, "images", H5P_DEFAULT);
      const hid_t space = H5Screate_simple(2, two, nullptr), row = H5Screate_simple(2, one, nullptr);
      H5Sselect_hyperslab(space, H5S_SELECT_SET, start, nullptr, one, nullptr);
      H5Dwrite(dataset, H5T_NATIVE_UINT8, row, space, H5P_DEFAULT, numbers<uint8_t>(4).data());
      H5Sclose(row);
      H5Sclose(space);
      H5Dclose(dataset);
    };
  };
  EXPECT_THAT(refusal(one_row_of_two(7)), HasSubstr("stand for 7"));
  {
    const NewFile file(path);
    one_row_of_two(0)(file);
  }
  const FieldLayout field = read_layout(path).field("images");
  EXPECT_GT(field.chunks.at(0).bytes, 0u);
  EXPECT_EQ(field.chunks.at(1).bytes, 0u);
}

TEST_F(Hdf5Layout, UserBlocksAreForContiguousDataOnly) {
  {
    const NewFile file(path, false, 512);
    add_u8(file, "images", {4}, {1, 2, 3, 4});
  }
  EXPECT_EQ(test::read_bytes(path).substr(read_layout(path).field("images").offset, 4), "\1\2\3\4");
  {
    const NewFile file(path, false, 512);
    add_u8(file, "images", {4}, {1, 2, 3, 4}, {.chunks = {4}});
  }
  EXPECT_THAT(test::message_of<DataError>([&] { read_layout(path); }), HasSubstr("user block of 512 bytes"));
}

TEST_F(Hdf5Layout, SaysWhatAFileIsInstead) {
  const std::vector<std::pair<std::string, const char*>> cases = {
      {"", "it is empty"},
      {std::string("\x1f\x8b\x08\0", 4), "lab_data import idx"},
      {std::string("\0\0\x08\x03", 4), "idx file of images"},
      {std::string("\0\0\x08\x01", 4), "idx file of labels"},
      {"PK\x03\x04", "zip file"},
      {"\x93NUMPY", "NumPy"},
      {"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"},
      {"label,pixel\n1,2\n", "it is text and begins with \"label,pixel"},
      {"\x01\x02\xff", "its first bytes are 01 02 ff"},
      {std::string(5000, '\0'), "its first bytes are 00 00"},
  };
  for (const auto& [bytes, words] : cases) {
    test::write_bytes(path, bytes);
    EXPECT_THAT(test::message_of<DataError>([&] { read_layout(path); }),
                AllOf(HasSubstr(path + " is not an HDF5 file"), HasSubstr(words)));
  }
}

TEST_F(Hdf5Layout, SaysWhatIsNoFile) {
  EXPECT_THAT(test::message_of<InputNotFound>([&] { read_layout(path); }), HasSubstr(path));
  EXPECT_THAT(test::message_of<DataError>([&] { read_layout(folder / "."); }), HasSubstr("is a folder"));
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(test::message_of<DataError>([&] { read_layout(path); }), HasSubstr("not a file on a disk"));
}

TEST_F(Hdf5Layout, RefusesAFileThatWasCutShort) {
  for (const bool newest : {false, true}) {
    {
      const NewFile file(path, newest);
      add_u8(file, "images", {40, 10}, numbers<uint8_t>(400), {.chunks = {8, 10}, .deflate = true});
      add_u8(file, "labels", {40}, numbers<uint8_t>(40));
    }
    const auto whole = std::filesystem::file_size(path);
    for (auto size = whole; size-- > 0;) {
      std::filesystem::resize_file(path, size);
      const std::string message = test::message_of<DataError>([&] { read_layout(path); });
      ASSERT_NE(message, "") << "with " << size << " of " << whole << " bytes";
      if (size >= 64) {
        ASSERT_THAT(message, AllOf(HasSubstr(text(whole, " bytes")), HasSubstr(text("has ", size)),
                                   HasSubstr("copy or fetch it again")));
      }
    }
  }
}

TEST_F(Hdf5Layout, RefusesAFileThatIsBeingWritten) {
  {
    const NewFile file(path);
    add_u8(file, "images", {4}, numbers<uint8_t>(4));
  }
  const int writer = open(path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(flock(writer, LOCK_EX), 0);
  EXPECT_THAT(test::message_of<DataError>([&] { read_layout(path); }),
              HasSubstr("open for writing elsewhere"));
  close(writer);
  EXPECT_NO_THROW(read_layout(path));
}

TEST_F(Hdf5Layout, RefusesNamesThatCouldSteerATerminal) {
  {
    const NewFile file(path);
    add_u8(file, "a\x1b[2J", {4}, numbers<uint8_t>(4));
  }
  EXPECT_THAT(test::message_of<DataError>([&] { read_layout(path); }), HasSubstr("a\\u001B[2J"));
}

}  // namespace
}  // namespace lab
