#include "lab/data/source.h"

#include <atomic>
#include <cstring>
#include <thread>

#include "test_files.h"

namespace lab {
namespace {

using test::add_dataset;
using test::add_u8;
using test::NewFile;
using test::numbers;
using test::Storage;
using testing::AllOf;
using testing::HasSubstr;

struct SourceTest : testing::Test {
  test::TemporaryFolder folder;
  const std::string path = folder / "x.h5";
  Source open(const std::vector<std::string>& fields) const {
    return {hdf5(path, fields), read_layout(path)};
  }
  std::string refusal(const Dataset& dataset) const {
    return test::message_of<DataError>([&] { Source(dataset, read_layout(path)); });
  }
};

// All values of one field, sample after sample.
template <class T>
std::vector<T> read_all(const Source& source) {
  std::vector<T> values;
  Sample sample;
  for (int64_t i = 0; i < source.size(); ++i) {
    source.read(i, sample);
    const Part& part = sample.parts.at(0);
    values.insert(values.end(), part.data<T>(), part.data<T>() + part.elements());
  }
  return values;
}

TEST_F(SourceTest, ReadsAnySampleOfAllFields) {
  {
    const NewFile file(path);
    add_u8(file, "images", {4, 2, 3}, numbers<uint8_t>(24));
    const std::vector<double> weights = {0.5, 1.5, 2.5, 3.5};
    add_dataset(file, "weights", H5T_IEEE_F64BE, H5T_NATIVE_DOUBLE, {4}, weights.data());
  }
  const Source source = open({"weights", "images"});
  EXPECT_EQ(source.size(), 4);
  EXPECT_EQ(source.path(), path);
  Sample sample;
  source.read(2, sample);
  EXPECT_EQ(sample.id, 2);
  ASSERT_EQ(sample.parts.size(), 2u);
  EXPECT_EQ(sample.parts[0].name, "weights");
  EXPECT_EQ(sample.parts[0].type, DType::f64);
  EXPECT_TRUE(sample.parts[0].shape.empty());
  EXPECT_EQ(*sample.parts[0].data<double>(), 2.5);
  Part& image = sample["images"];
  EXPECT_EQ(image.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(image.elements(), 6);
  const auto all = numbers<uint8_t>(24);
  EXPECT_TRUE(std::equal(all.begin() + 12, all.begin() + 18, image.data<uint8_t>()));
  EXPECT_THROW(source.read(4, sample), Bug);
  EXPECT_THROW(source.read(-1, sample), Bug);
}

TEST_F(SourceTest, CountsFromWhereTheDatasetBegins) {
  {
    const NewFile file(path);
    add_u8(file, "labels", {10}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  }
  const Source source(hdf5(path, {"labels"}).drop(3).take(4), read_layout(path));
  EXPECT_EQ(source.size(), 4);
  EXPECT_EQ(source.file_index(1), 4);
  EXPECT_EQ(read_all<uint8_t>(source), (std::vector<uint8_t>{3, 4, 5, 6}));
  Sample sample;
  source.read(1, sample);
  EXPECT_EQ(sample.id, 4);
}

// Every way in which HDF5 lays out and indexes chunks, against the values that were written.
TEST_F(SourceTest, ReadsEveryKindOfStorage) {
  const auto values = numbers<uint16_t>(7 * 5 * 6);
  const std::vector<hsize_t> shape = {7, 5, 6}, endless = {H5S_UNLIMITED, 5, 6},
                             twice_endless = {H5S_UNLIMITED, H5S_UNLIMITED, 6};
  const auto early = [](hid_t creation) { H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY); };
  const auto checksum_first = [](hid_t creation) {
    H5Pset_fletcher32(creation);
    H5Pset_deflate(creation, 3);
    H5Pset_shuffle(creation);
  };
  const std::vector<Storage> storages = {
      {},
      {.chunks = {7, 5, 6}},
      {.chunks = {7, 5, 6}, .deflate = true},
      {.chunks = {2, 5, 6}},
      {.chunks = {2, 5, 6}, .change = early},
      {.chunks = {1, 1, 1}},
      {.chunks = {2, 2, 4}, .shuffle = true},
      {.chunks = {2, 2, 4}, .fletcher32 = true},
      {.chunks = {3, 5, 4}, .shuffle = true, .deflate = true, .fletcher32 = true},
      {.chunks = {9, 9, 9}, .deflate = true, .most = {9, 9, 9}},
      {.chunks = {2, 5, 6}, .deflate = true, .most = endless},
      {.chunks = {2, 2, 6}, .shuffle = true, .deflate = true, .most = twice_endless},
      {.chunks = {3, 4, 5}, .change = checksum_first},
  };
  for (const bool newest : {false, true})
    for (const hid_t type : {H5T_STD_U16LE, H5T_STD_U16BE})
      for (size_t i = 0; i < storages.size(); ++i) {
        {
          const NewFile file(path, newest);
          add_dataset(file, "x", type, H5T_NATIVE_UINT16, shape, values.data(), storages[i]);
        }
        EXPECT_EQ(read_all<uint16_t>(open({"x"})), values)
            << "storage " << i << (newest ? ", newest format" : "");
      }
}

TEST_F(SourceTest, ReadsChunksOfSingleNumbers) {
  {
    const NewFile file(path);
    add_u8(file, "labels", {10}, numbers<uint8_t>(10), {.chunks = {4}, .deflate = true});
  }
  EXPECT_EQ(read_all<uint8_t>(open({"labels"})), numbers<uint8_t>(10));
}

TEST_F(SourceTest, ChunksThatWereNeverWrittenAreZeros) {
  {
    const NewFile file(path);
    add_u8(file, "x", {2}, {5, 6}, {.chunks = {2}, .most = {H5S_UNLIMITED}});
    const hid_t dataset = H5Dopen2(file.id, "x", H5P_DEFAULT);
    const hsize_t more = 5;
    H5Dset_extent(dataset, &more);
    H5Dclose(dataset);
  }
  EXPECT_EQ(read_all<uint8_t>(open({"x"})), (std::vector<uint8_t>{5, 6, 0, 0, 0}));
}

TEST_F(SourceTest, RefusesFieldsThatDoNotBelongTogether) {
  {
    const NewFile file(path);
    add_u8(file, "images", {5, 2}, numbers<uint8_t>(10));
    add_u8(file, "labels", {4}, numbers<uint8_t>(4));
    add_u8(file, "nothing", {0}, {});
  }
  EXPECT_THAT(
      refusal(hdf5(path, {"images", "labels"})),
      AllOf(HasSubstr(path), HasSubstr("'images'"), HasSubstr("5 samples"), HasSubstr("'labels' has 4")));
  EXPECT_THAT(refusal(hdf5(path, {"image"})), HasSubstr("did you mean 'images'?"));
  EXPECT_NE(refusal(hdf5(path, {"images"}).with_optional("labels")), "");
  EXPECT_EQ(refusal(hdf5(path, {"images"}).with_optional("masks")), "");
  EXPECT_THAT(refusal(hdf5(path, {"nothing"})), HasSubstr("has 0 samples"));
}

TEST_F(SourceTest, ReadsOptionalFieldsThatTheFileHas) {
  {
    const NewFile file(path);
    add_u8(file, "images", {3, 2}, numbers<uint8_t>(6));
    add_u8(file, "labels", {3}, {7, 8, 9});
  }
  const Source source(hdf5(path, {"images"}).with_optional("labels").with_optional("masks"),
                      read_layout(path));
  Sample sample;
  source.read(1, sample);
  ASSERT_EQ(sample.parts.size(), 2u);
  EXPECT_EQ(*sample["labels"].data<uint8_t>(), 8);
}

TEST_F(SourceTest, RefusesMoreSamplesThanThereAre) {
  {
    const NewFile file(path);
    add_u8(file, "labels", {10}, numbers<uint8_t>(10));
  }
  const Dataset all = hdf5(path, {"labels"});
  EXPECT_EQ(refusal(all.take(10)), "");
  EXPECT_THAT(refusal(all.take(11)), AllOf(HasSubstr("11 samples"), HasSubstr("it has 10")));
  EXPECT_THAT(refusal(all.drop(8).take(3)),
              AllOf(HasSubstr("from sample 8 on"), HasSubstr("it has 2 there")));
  EXPECT_THAT(refusal(all.drop(10)), AllOf(HasSubstr("has 10 samples"), HasSubstr("begins at sample 10")));
  EXPECT_THAT(refusal(all.take(0)), HasSubstr("0 samples"));
}

TEST_F(SourceTest, NoticesThatTheFileWasChanged) {
  {
    const NewFile file(path);
    add_u8(file, "labels", {4000}, numbers<uint8_t>(4000));
    add_u8(file, "large", {4000, 3000}, numbers<uint8_t>(12'000'000));
  }
  const FileLayout layout = read_layout(path);
  const Source source(hdf5(path, {"large"}), layout), small(hdf5(path, {"labels"}), layout);
  std::filesystem::resize_file(path, layout.file_bytes - 12'000'010);
  EXPECT_THAT(test::message_of<DataError>([&] { Source(hdf5(path, {"labels"}), layout); }),
              AllOf(HasSubstr(path), HasSubstr(text(layout.file_bytes))));
  Sample sample;
  for (int again = 0; again < 2; ++again)
    EXPECT_THAT(test::message_of<DataError>([&] { small.read(100, sample); }),  // is read whole at first
                HasSubstr("changed since it was opened"));
  EXPECT_THAT(test::message_of<DataError>([&] { source.read(3999, sample); }),
              HasSubstr("changed since it was opened"));
  std::filesystem::remove(path);
  EXPECT_THROW(Source(hdf5(path, {"labels"}), layout), InputNotFound);
}

// Flips each bit of the second of three chunks in turn.
TEST_F(SourceTest, NamesTheChunkThatIsDamaged) {
  for (const bool deflate : {false, true}) {
    {
      const NewFile file(path);
      add_u8(file, "images", {12, 3}, numbers<uint8_t>(36),
             {.chunks = {4, 3}, .deflate = deflate, .fletcher32 = true});
    }
    const FileLayout layout = read_layout(path);
    const Chunk chunk = layout.field("images").chunks[1];
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const auto flip = [&](uint64_t bit) {
      file.seekg(static_cast<std::streamoff>(chunk.offset + bit / 8));
      const int byte = file.get();
      file.seekp(static_cast<std::streamoff>(chunk.offset + bit / 8));
      file.put(static_cast<char>(byte ^ (1 << bit % 8))).flush();
    };
    for (uint64_t bit = 0; bit < chunk.bytes * 8; ++bit) {
      flip(bit);
      const Source source(hdf5(path, {"images"}), layout);
      Sample sample;
      EXPECT_NO_THROW(source.read(3, sample));
      EXPECT_NO_THROW(source.read(8, sample));
      EXPECT_THAT(test::message_of<DataError>([&] { source.read(5, sample); }),
                  AllOf(HasSubstr(path), HasSubstr("'images'"), HasSubstr("chunk 1"),
                        HasSubstr("samples 4 to 7"), HasSubstr("checksum")));
      flip(bit);
    }
  }
}

TEST_F(SourceTest, SaysWhyAChunkDoesNotDecode) {
  {
    const NewFile file(path);
    add_u8(file, "images", {4, 300}, numbers<uint8_t>(1200), {.chunks = {4, 300}, .deflate = true});
  }
  const FileLayout good = read_layout(path);
  const auto reason = [&](const std::function<void(FieldLayout&)>& change) {
    FileLayout layout = good;
    change(layout.fields[0]);
    const Source source(hdf5(path, {"images"}), layout);
    Sample sample;
    return test::message_of<DataError>([&] { source.read(0, sample); });
  };
  EXPECT_EQ(reason([](FieldLayout&) {}), "");
  EXPECT_THAT(reason([](FieldLayout& field) { field.chunks[0].bytes -= 8; }),
              HasSubstr("does not decompress"));
  EXPECT_THAT(reason([](FieldLayout& field) { field.chunks[0].offset -= 1; }), HasSubstr("zlib: data error"));
  EXPECT_THAT(reason([](FieldLayout& field) { field.shape[1] = field.chunk_shape[1] = 299; }),
              HasSubstr("zlib: buffer error"));
  EXPECT_THAT(reason([](FieldLayout& field) { field.shape[1] = field.chunk_shape[1] = 301; }),
              HasSubstr("1200 bytes instead of 1204"));
  EXPECT_THAT(reason([](FieldLayout& field) { field.chunks[0].filter_mask = 1; }),
              HasSubstr("instead of 1200"));
}

TEST_F(SourceTest, ServesManyThreads) {
  const auto values = numbers<uint32_t>(4096 * 64);
  {
    const NewFile file(path);  // 16 MiB in chunks of 1 MiB, contiguous beside it
    add_dataset(file, "x", H5T_STD_U32LE, H5T_NATIVE_UINT32, {4096, 64}, values.data(),
                {.chunks = {256, 64}, .deflate = true});
    add_dataset(file, "y", H5T_STD_U32LE, H5T_NATIVE_UINT32, {4096, 64}, values.data());
  }
  const Source source = open({"x", "y"});
  std::atomic<int64_t> wrong = 0;
  std::vector<std::thread> threads;
  for (int64_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      Sample sample;
      for (int64_t k = 0; k < 2000; ++k) {
        const int64_t i = (k * 1117 + t * 613) % source.size();
        source.read(i, sample);
        for (const Part& part : sample.parts)
          wrong += std::memcmp(part.bytes.data(), values.data() + i * 64, 64 * sizeof(uint32_t)) != 0;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

// More chunks than the cache holds: each is decoded again when its turn comes.
TEST_F(SourceTest, ForgetsChunksThatDoNotFit) {
  constexpr int64_t samples = 20, floats = 1 << 20;  // 80 MiB of chunks of 4 MiB
  std::vector<float> values(samples * floats);
  for (size_t i = 0; i < values.size(); i += 4096) values[i] = static_cast<float>(i);
  {
    const NewFile file(path);
    add_dataset(file, "x", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, {samples, floats}, values.data(),
                {.chunks = {1, floats}, .deflate = true});
  }
  const Source source = open({"x"});
  Sample sample;
  for (int round = 0; round < 2; ++round)
    for (int64_t i = 0; i < samples; ++i) {
      source.read(i, sample);
      ASSERT_EQ(std::memcmp(sample.parts[0].bytes.data(), values.data() + i * floats, floats * sizeof(float)),
                0);
    }
}

}  // namespace
}  // namespace lab
