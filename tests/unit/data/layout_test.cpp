#include "lab/data/layout.h"

#include <sys/stat.h>

#include "test_files.h"

namespace lab {
namespace {

using testing::AllOf;
using testing::HasSubstr;

FieldLayout plain_field() { return {.name = "labels", .type = DType::u8, .shape = {10}, .offset = 100}; }

FieldLayout chunked_field() {
  return {.name = "images",
          .type = DType::f32,
          .big_endian = true,
          .shape = {10, 4},
          .chunk_shape = {4, 4},
          .filters = {Filter::shuffle, Filter::deflate},
          .chunks = {{200, 30, 0}, {230, 40, 2}, {0, 0, 0}}};
}

FileLayout two_fields() { return {"a \"b\".h5", 1000, {plain_field(), chunked_field()}}; }

std::string refusal_of(const FieldLayout& field) {
  return test::message_of<DataError>([&] { layout_from_text(to_text({"x.h5", 1000, {field}})); });
}

TEST(Layout, SurvivesBeingText) {
  const FileLayout read = layout_from_text(to_text(two_fields()));
  EXPECT_EQ(read.path, "a \"b\".h5");
  EXPECT_EQ(read.file_bytes, 1000u);
  ASSERT_EQ(read.fields.size(), 2u);
  EXPECT_EQ(read.fields[0].offset, 100u);
  const FieldLayout& field = read.fields[1];
  EXPECT_EQ(field.type, DType::f32);
  EXPECT_TRUE(field.big_endian);
  EXPECT_EQ(field.shape, (std::vector<int64_t>{10, 4}));
  EXPECT_EQ(field.chunk_shape, (std::vector<int64_t>{4, 4}));
  EXPECT_EQ(field.filters, (std::vector<Filter>{Filter::shuffle, Filter::deflate}));
  ASSERT_EQ(field.chunks.size(), 3u);
  EXPECT_EQ(field.chunks[1].offset, 230u);
  EXPECT_EQ(field.chunks[1].bytes, 40u);
  EXPECT_EQ(field.chunks[1].filter_mask, 2u);
  EXPECT_EQ(to_text(read), to_text(two_fields()));
}

TEST(Layout, FindsAFieldOrNamesTheOnesThereAre) {
  const FileLayout layout = two_fields();
  EXPECT_EQ(layout.field("images").name, "images");
  EXPECT_THAT(
      test::message_of<DataError>([&] { layout.field("image"); }),
      AllOf(HasSubstr("no field 'image'"), HasSubstr("did you mean 'images'?"), HasSubstr("labels, images")));
}

TEST(Layout, RefusesTextThatIsNoLayout) {
  for (const char* words : {"", "hello", "{}", "[]", "null", R"({"path": 1, "file_bytes": 2, "fields": []})",
                            R"({"path": "x", "file_bytes": 2, "fields": [{}]})"})
    EXPECT_THAT(test::message_of<DataError>([&] { layout_from_text(words); }), HasSubstr("lab_data"))
        << words;
  std::string other_type = to_text(two_fields());
  other_type.replace(other_type.find("\"f32\""), 5, "\"f31\"");
  EXPECT_THAT(test::message_of<DataError>([&] { layout_from_text(other_type); }), HasSubstr("\"f31\""));
}

TEST(Layout, RefusesFieldsThatCannotBe) {
  EXPECT_EQ(refusal_of(plain_field()), "");
  FieldLayout field = plain_field();
  field.offset = 991;
  EXPECT_THAT(refusal_of(field), AllOf(HasSubstr("reaches to byte 1001"), HasSubstr("has 1000 bytes")));
  field = plain_field();
  field.shape = {};
  EXPECT_THAT(refusal_of(field), HasSubstr("no dimension"));
  field = plain_field();
  field.shape = {-1};
  EXPECT_THAT(refusal_of(field), HasSubstr("impossible shape"));
  field = plain_field();
  field.shape = {int64_t{1} << 40, int64_t{1} << 40};
  EXPECT_THAT(refusal_of(field), HasSubstr("(1099511627776, 1099511627776)"));
  field = plain_field();
  field.shape = {0, int64_t{1} << 40, int64_t{1} << 40};
  EXPECT_NE(refusal_of(field), "");
}

TEST(Layout, RefusesChunksThatCannotBe) {
  EXPECT_EQ(refusal_of(chunked_field()), "");
  FieldLayout field = chunked_field();
  field.chunks.pop_back();
  EXPECT_THAT(refusal_of(field), AllOf(HasSubstr("has 2 chunks"), HasSubstr("asks for 3")));
  field = chunked_field();
  field.chunks[1].offset = 970;
  EXPECT_THAT(refusal_of(field), AllOf(HasSubstr("chunk 1 of dataset 'images'"), HasSubstr("cut short")));
  field = chunked_field();
  field.chunk_shape = {4, 0};
  EXPECT_THAT(refusal_of(field), HasSubstr("impossible shape (4, 0)"));
  field = chunked_field();
  field.chunk_shape = {4};
  EXPECT_THAT(refusal_of(field), HasSubstr("impossible shape (4)"));
  field = chunked_field();
  field.filters = {};
  EXPECT_THAT(refusal_of(field), HasSubstr("30 bytes where 64 were expected"));
  field = chunked_field();
  field.shape = {10, 4000};
  field.chunk_shape = {4, 4000};
  field.chunks = {{200, 30, 0}, {230, 400, 0}, {0, 0, 0}};
  EXPECT_THAT(refusal_of(field), HasSubstr("from 30 stored bytes"));
}

// The helper is a program that we write here: what counts is what becomes of its end.
struct Helper : testing::Test {
  test::TemporaryFolder folder;
  const std::string program = folder / "helper";
  FileLayout run(const std::string& script) {
    test::write_bytes(program, "#!/bin/sh\n" + script + "\n");
    chmod(program.c_str(), 0700);
    return read_layout_in_helper("data/x.h5", program);
  }
};

TEST_F(Helper, GivesTheLayoutThatItPrints) {
  const FileLayout layout = run("[ \"$*\" = 'layout -- data/x.h5' ] && echo '" + to_text(two_fields()) + "'");
  EXPECT_EQ(layout.path, "data/x.h5");  // as asked for, whatever the helper calls it
  EXPECT_EQ(layout.fields.size(), 2u);
}

TEST_F(Helper, ItsEndBecomesTheErrorItStandsFor) {
  const auto message = [](const std::string& words) { return "echo 'lab_data: " + words + "' >&2; exit "; };
  EXPECT_EQ(test::message_of<DataError>([&] { run(message("bad filter") + "65"); }), "bad filter");
  EXPECT_EQ(test::message_of<InputNotFound>([&] { run(message("no file") + "66"); }), "no file");
  EXPECT_EQ(test::message_of<IoError>([&] { run(message("disk") + "74"); }), "disk");
  EXPECT_THAT(test::message_of<Bug>([&] { run(message("what?") + "70"); }), HasSubstr("what?"));
  EXPECT_THAT(test::message_of<DataError>([&] { run("echo nonsense"); }), HasSubstr("not the layout"));
}

TEST_F(Helper, ItsCrashIsADataError) {
  EXPECT_THAT(test::message_of<DataError>([&] { run("kill -SEGV $$"); }),
              AllOf(HasSubstr("crashed on data/x.h5"), HasSubstr("Segmentation fault")));
}

TEST_F(Helper, ItsAbsenceIsSaid) {
  EXPECT_THAT(test::message_of<Unavailable>([&] { read_layout_in_helper("x.h5", folder / "absent"); }),
              HasSubstr("absent"));
}

}  // namespace
}  // namespace lab
