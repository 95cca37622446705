#include <cmath>
#include <limits>

#include "digit_files.h"
#include "lab/data/reader.h"

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

TEST(Metadata, HoldsValuesByName) {
  Metadata metadata;
  metadata.set("patient", int64_t{17});
  metadata.set("name", "Ada");
  metadata.set("dose", 0.25);
  metadata.set("patient", int64_t{18});
  EXPECT_EQ(text_of(metadata["patient"]), "18");
  EXPECT_EQ(text_of(metadata["name"]), "Ada");
  EXPECT_EQ(text_of(metadata["dose"]), "0.25");
  EXPECT_EQ(metadata.entries().size(), 3u);
  EXPECT_TRUE(metadata.has("name"));
  EXPECT_FALSE(metadata.has("names"));
  EXPECT_THAT(
      test::message_of<ConfigError>([&] { metadata["names"]; }),
      AllOf(HasSubstr("'names'"), HasSubstr("did you mean 'name'?"), HasSubstr("patient, name, dose")));
  EXPECT_THAT(test::message_of<ConfigError>([] { Metadata()["x"]; }), HasSubstr("it has none"));
}

struct MetadataFiles : test::DigitFiles {
  const std::string path = folder / "m.h5";
  std::shared_ptr<const Source> open_with(const std::vector<std::string>& fields) const {
    return open(hdf5(path, {"labels"}).with_metadata(fields));
  }
  std::string refusal_of(const std::vector<std::string>& fields) const {
    return test::message_of<DataError>([&] { open_with(fields); });
  }
};

TEST_F(MetadataFiles, IsReadBesideTheParts) {
  const auto source = open(a.drop(2));
  Sample sample;
  source->read(3, sample);
  EXPECT_EQ(sample.parts.size(), 2u) << "it goes into no batch";
  EXPECT_EQ(sample.metadata.entries(),
            (std::vector<Metadata::Entry>{{"patients", int64_t{2}}, {"names", "n5"}}));
  EXPECT_EQ(source->metadata(3), sample.metadata);
  open(hdf5(a_path, {"labels"}))->read(3, sample);
  EXPECT_TRUE(sample.metadata.empty()) << "that of the sample before is gone";
  EXPECT_THROW(source->metadata(8), Bug);
  EXPECT_THAT(source->identity(),
              AllOf(HasSubstr("metadata patients i32"), HasSubstr("metadata names u8 (3)")));
}

TEST_F(MetadataFiles, TravelsWithTheBatch) {
  const auto count = map("count", [](Sample& sample, Rng&) {
    sample.metadata.set("patients", std::get<int64_t>(sample.metadata["patients"]) + 100);
  });
  const auto source = open(a);
  const HostBatch batch = make_batch(*source, {count}, {.seed = 1, .shuffle = true}, {0, {0, 10}});
  ASSERT_EQ(batch.metadata.size(), 10u);
  for (size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(text_of(batch.metadata[i]["patients"]), text(100 + batch.ids[i] / 2));
    EXPECT_EQ(text_of(batch.metadata[i]["names"]), text("n", batch.ids[i]));
  }
  EXPECT_TRUE(make_batch(*open(hdf5(a_path, {"labels"})), {}, {}, {0, {0, 10}}).metadata.empty());
  // Where only some have any, the others have none of their own.
  const HostBatch mixed =
      make_batch(*open(concat({hdf5(b_path, {"labels"}), hdf5(a_path, {"labels"}).with_metadata({"names"}),
                               hdf5(b_path, {"labels"})})),
                 {}, {}, {0, {2, 13}});
  ASSERT_EQ(mixed.metadata.size(), 13u);
  EXPECT_TRUE(mixed.metadata[1].empty());
  EXPECT_EQ(text_of(mixed.metadata[2]["names"]), "n0");
  EXPECT_TRUE(mixed.metadata[12].empty());
}

// Every type, byte order and storage of one number per sample.
TEST_F(MetadataFiles, IsANumberOfAnyType) {
  const std::vector<int32_t> values = {0, 1, 100, 7};
  const std::vector<double> halves = {0.5, -1, 1e300, 3};
  {
    const NewFile file(path);
    add_u8(file, "labels", {4}, {1, 2, 3, 4});
    const std::vector<std::pair<const char*, hid_t>> types = {
        {"u8", H5T_STD_U8LE},   {"i8", H5T_STD_I8LE},   {"u16", H5T_STD_U16BE}, {"i16", H5T_STD_I16LE},
        {"u32", H5T_STD_U32LE}, {"i32", H5T_STD_I32BE}, {"u64", H5T_STD_U64LE}, {"i64", H5T_STD_I64BE}};
    for (const auto& [name, type] : types)
      add_dataset(file, name, type, H5T_NATIVE_INT32, {4}, values.data());
    add_dataset(file, "f32", H5T_IEEE_F32LE, H5T_NATIVE_INT32, {4}, values.data());
    add_dataset(file, "f64", H5T_IEEE_F64BE, H5T_NATIVE_DOUBLE, {4}, halves.data(),
                {.chunks = {3}, .deflate = true});
  }
  const auto source = open_with({"u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64"});
  for (int64_t i = 0; i < 4; ++i) {
    const Metadata metadata = source->metadata(i);
    ASSERT_EQ(metadata.entries().size(), 10u);
    for (size_t e = 0; e < 8; ++e)
      EXPECT_EQ(metadata.entries()[e].second, MetadataValue(int64_t{values[static_cast<size_t>(i)]}));
    EXPECT_EQ(metadata["f32"], MetadataValue(static_cast<double>(values[static_cast<size_t>(i)])));
    EXPECT_EQ(metadata["f64"], MetadataValue(halves[static_cast<size_t>(i)]));
  }
}

// Texts as h5py writes numpy's "S", as C and as Fortran do, in every storage that can be followed.
TEST_F(MetadataFiles, IsATextOfAFixedLength) {
  const std::vector<Storage> storages = {
      {}, {.chunks = {2}}, {.chunks = {3}, .deflate = true, .fletcher32 = true}};
  const std::vector<std::pair<H5T_str_t, std::string>> paddings = {
      {H5T_STR_NULLPAD, std::string("Ada\0\0\0Grace\0Barbar", 18)},
      {H5T_STR_NULLTERM, std::string("Ada\0xxGrace\0Barba\0", 18)},
      {H5T_STR_SPACEPAD, "Ada   Grace Barbar"}};
  for (const Storage& storage : storages)
    for (const auto& [padding, bytes] : paddings) {
      const hid_t type = H5Tcopy(H5T_C_S1);
      H5Tset_size(type, 6);
      H5Tset_strpad(type, padding);
      {
        const NewFile file(path);
        add_u8(file, "labels", {3}, {1, 2, 3});
        add_dataset(file, "names", type, type, {3}, bytes.data(), storage);
      }
      H5Tclose(type);
      const FileLayout layout = read_layout(path);
      EXPECT_EQ(layout.fields.size(), 1u) << "it is no field";
      const Source source(hdf5(path, {"labels"}).with_metadata({"names"}), layout_from_text(to_text(layout)));
      EXPECT_EQ(text_of(source.metadata(0)["names"]), "Ada");
      EXPECT_EQ(text_of(source.metadata(1)["names"]), "Grace");
      EXPECT_EQ(text_of(source.metadata(2)["names"]), padding == H5T_STR_NULLTERM ? "Barba" : "Barbar");
    }
}

// What plain reads cannot follow is no reason to refuse the file: only to who asks for it.
TEST_F(MetadataFiles, RefusesOtherTexts) {
  const hid_t variable = H5Tcopy(H5T_C_S1), fixed = H5Tcopy(H5T_C_S1);
  H5Tset_size(variable, H5T_VARIABLE);
  H5Tset_size(fixed, 2);
  const std::vector<const char*> words = {"a", "b"};
  {
    const NewFile file(path);
    add_u8(file, "labels", {2}, {1, 2});
    add_dataset(file, "variable", variable, variable, {2}, words.data());
    add_dataset(file, "shuffled", fixed, fixed, {2}, "a\0b", {.chunks = {2}, .shuffle = true});
    add_dataset(file, "pairs", fixed, fixed, {2, 2}, "a\0b\0c\0d");
    add_dataset(file, "compact", fixed, fixed, {2}, "a\0b",
                {.change = [](hid_t creation) { H5Pset_layout(creation, H5D_COMPACT); }});
    add_dataset(file, "unwritten", fixed, fixed, {2}, nullptr);
    add_dataset(file, "names", fixed, fixed, {2}, "a\0b");
  }
  H5Tclose(variable);
  H5Tclose(fixed);
  for (const char* name : {"variable", "shuffled", "pairs", "compact", "unwritten", "nothing"})
    EXPECT_THAT(refusal_of({name}),
                AllOf(HasSubstr(path), HasSubstr(text("no '", name, "' that could be metadata")),
                      HasSubstr("labels, names"), HasSubstr("fixed length")));
  EXPECT_EQ(refusal_of({"names", "labels"}), "");
  EXPECT_THAT(refusal_of({"name"}), HasSubstr("did you mean 'names'?"));
  EXPECT_THAT(test::message_of<DataError>([&] { open(hdf5(path, {"names"})); }),
              HasSubstr("no field 'names'"));
}

TEST_F(MetadataFiles, RefusesWhatIsNotOnePerSample) {
  {
    const NewFile file(path);
    add_u8(file, "labels", {4}, {1, 2, 3, 4});
    add_u8(file, "images", {4, 2}, numbers<uint8_t>(8));
    add_u8(file, "few", {3}, {1, 2, 3});
    const std::vector<uint64_t> large = {1, uint64_t{1} << 63, 2, 3};
    add_dataset(file, "large", H5T_STD_U64LE, H5T_NATIVE_UINT64, {4}, large.data());
  }
  EXPECT_THAT(refusal_of({"images"}), AllOf(HasSubstr("'images' of " + path), HasSubstr("(4, 2)")));
  EXPECT_THAT(refusal_of({"few"}), AllOf(HasSubstr("'few' has 3"), HasSubstr("same first dimension")));
  const auto source = open_with({"large"});
  EXPECT_EQ(text_of(source->metadata(2)["large"]), "2");
  EXPECT_THAT(test::message_of<DataError>([&] { source->metadata(1); }),
              AllOf(HasSubstr("'large' of sample 1"), HasSubstr("9223372036854775808")));
  EXPECT_EQ(refusal_of({}), "");
}

TEST_F(MetadataFiles, ALayoutWithImpossibleTextsIsRefused) {
  FileLayout layout{
      "x.h5", 1000, {}, {{.name = "names", .type = DType::u8, .shape = {10, 4}, .offset = 100}}};
  EXPECT_EQ(layout_from_text(to_text(layout)).texts.size(), 1u);
  layout.texts[0].shape = {10};
  EXPECT_THAT(test::message_of<DataError>([&] { layout_from_text(to_text(layout)); }),
              HasSubstr("'names' of x.h5"));
  layout.texts[0].shape = {10, 4};
  layout.texts[0].type = DType::f32;
  EXPECT_THROW(layout_from_text(to_text(layout)), DataError);
  layout.texts[0].type = DType::u8;
  layout.texts[0].offset = 990;
  EXPECT_THAT(test::message_of<DataError>([&] { layout_from_text(to_text(layout)); }),
              HasSubstr("cut short"));
}

}  // namespace
}  // namespace lab
