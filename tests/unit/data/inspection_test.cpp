#include "lab/data/inspection.h"

#include <cmath>

#include "lab/data/hdf5_writer.h"
#include "lab/data/source.h"
#include "test_files.h"

namespace lab {
namespace {

using test::add_dataset;
using test::add_u8;
using test::NewFile;
using test::numbers;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Inspection : testing::Test {
  test::TemporaryFolder folder;
  const std::string path = folder / "x.h5";
};

std::vector<std::string> lines_of(const std::string& words) {
  std::istringstream in(words);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST_F(Inspection, DescribesFieldsAndTheirValues) {
  std::vector<uint8_t> labels(300);
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<uint8_t>(i % 30);
  std::vector<float> heights(300, 0.5f);
  heights[3] = -1.25f;
  heights[4] = std::nanf("");
  {
    const NewFile file(path);
    add_u8(file, "labels", {300}, labels);
    add_dataset(file, "heights", H5T_IEEE_F32BE, H5T_NATIVE_FLOAT, {300, 1}, heights.data(),
                {.chunks = {100, 1}, .shuffle = true, .deflate = true});
  }
  const std::string words = describe(read_layout(path));
  EXPECT_THAT(
      words,
      AllOf(HasSubstr("  labels  u8  (300)  contiguous\n    from 0 to 29, mean 14.5\n    0: 10  1: 10"),
            HasSubstr("29: 10\n"),
            HasSubstr("  heights  f32  (300, 1)  chunks of (100, 1), shuffle, deflate, big-endian\n"),
            HasSubstr("from -1.25 to 0.5"), HasSubstr("1 values are NaN or infinite")));
  for (const std::string& line : lines_of(words)) EXPECT_LE(line.size(), 80u) << line;
}

TEST_F(Inspection, DrawsASample) {
  {
    const NewFile file(path);
    add_u8(file, "images", {2, 2, 3}, {0, 0, 0, 0, 0, 0, 0, 255, 0, 128, 0, 0});
    add_u8(file, "labels", {2}, {4, 7});
  }
  const FileLayout layout = read_layout(path);
  EXPECT_EQ(picture(layout, 1), "sample 1  labels 7\n  @@\n++\n");
  EXPECT_THAT(test::message_of<DataError>([&] { picture(layout, 2); }), HasSubstr("show one from 0 to 1"));
  {
    const NewFile file(path);
    add_u8(file, "wide", {1, 4, 200}, std::vector<uint8_t>(800, 255));
  }
  const auto lines = lines_of(picture(read_layout(path), 0));
  ASSERT_GE(lines.size(), 2u);
  EXPECT_EQ(lines[1], std::string(67, '@'));  // every third pixel
  {
    const NewFile file(path);
    add_u8(file, "labels", {2}, {4, 7});
  }
  EXPECT_THROW(picture(read_layout(path), 0), DataError);
}

TEST_F(Inspection, FindsNothingInASoundFile) {
  {
    const NewFile file(path);
    add_u8(file, "images", {12, 3, 2}, numbers<uint8_t>(72),
           {.chunks = {4, 2, 2}, .deflate = true, .fletcher32 = true});
    add_u8(file, "labels", {12}, numbers<uint8_t>(12));
  }
  EXPECT_THAT(problems_in(read_layout(path)), IsEmpty());
}

TEST_F(Inspection, FindsAllThatIsWrong) {
  std::vector<double> heights(24, 1);
  heights[2] = heights[3] = heights[20] = std::nan("");
  {
    const NewFile file(path);
    add_dataset(file, "heights", H5T_NATIVE_DOUBLE, H5T_NATIVE_DOUBLE, {12, 2}, heights.data());
    add_u8(file, "images", {12, 4}, numbers<uint8_t>(48), {.chunks = {4, 2}, .fletcher32 = true});
    add_u8(file, "labels", {11}, numbers<uint8_t>(11));
    add_u8(file, "nothing", {0}, {});
  }
  const FileLayout layout = read_layout(path);
  std::string damaged = test::read_bytes(path);
  for (const size_t chunk : {1, 2}) damaged[layout.field("images").chunks[chunk].offset] ^= 1;
  test::write_bytes(path, damaged);
  EXPECT_THAT(
      problems_in(layout),
      ElementsAre(HasSubstr("NaN or infinity in 'heights' (samples 1, 10)"),
                  AllOf(HasSubstr("chunk 1 of 'images'"), HasSubstr("samples 0 to 3")),
                  AllOf(HasSubstr("chunk 2 of 'images'"), HasSubstr("samples 4 to 7")),
                  AllOf(HasSubstr("12 samples"), HasSubstr("'labels' has 11")),
                  AllOf(HasSubstr("12 samples"), HasSubstr("'nothing' has 0")), HasSubstr("has no samples")));
}

TEST_F(Inspection, AFileWithoutNumbersIsAProblem) {
  { const NewFile file(path); }
  EXPECT_THAT(describe(read_layout(path)), HasSubstr("no datasets of numbers"));
  EXPECT_THAT(problems_in(read_layout(path)), ElementsAre(HasSubstr("no datasets of numbers")));
}

TEST_F(Inspection, WhatIsWrittenIsRead) {
  const auto images = numbers<int16_t>(24);
  const std::vector<float> weights = {1.5f, -2.5f};
  const std::vector<NewField> fields = {{"images", DType::i16, {2, 3, 4}, std::as_bytes(std::span(images))},
                                        {"weights", DType::f32, {2}, std::as_bytes(std::span(weights))}};
  write_hdf5(path, fields);
  const Source source(hdf5(path, {"images", "weights"}), read_layout(path));
  Sample sample;
  source.read(1, sample);
  EXPECT_EQ(sample["images"].shape, (std::vector<int64_t>{3, 4}));
  EXPECT_TRUE(std::equal(images.begin() + 12, images.end(), sample["images"].data<int16_t>()));
  EXPECT_EQ(*sample["weights"].data<float>(), -2.5f);

  const std::string first = test::read_bytes(path);
  write_hdf5(path, fields);  // in place of the old one, with the same bytes
  EXPECT_EQ(test::read_bytes(path), first);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder / "."), {}), 1);
}

TEST_F(Inspection, AFileThatCannotBeWrittenLeavesNothing) {
  const std::vector<NewField> fields = {{"images", DType::f16, {2}, {}}};
  EXPECT_THROW(write_hdf5(path, fields), Bug);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder / "."), {}), 0);
  EXPECT_THAT(test::message_of<IoError>([&] { write_hdf5(folder / "absent/x.h5", {}); }),
              AllOf(HasSubstr("absent/x.h5"), HasSubstr("check the folder")));
}

}  // namespace
}  // namespace lab
