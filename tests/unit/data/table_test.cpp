#include "lab/data/table.h"

#include <array>
#include <filesystem>
#include <limits>
#include <span>

#include "lab/data/source.h"
#include "test_files.h"

namespace lab {
namespace {

using testing::AllOf;
using testing::HasSubstr;

template <class T>
TableColumn numbers(const std::string& name, DType type, std::vector<int64_t> shape,
                    const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {.name = name, .type = type, .shape = std::move(shape), .bytes = {bytes.begin(), bytes.end()}};
}

TableColumn texts(const std::string& name, std::vector<std::string> values) {
  return {.name = name, .is_text = true, .texts = std::move(values)};
}

struct Tables : testing::Test {
  const test::TemporaryFolder folder;
  std::string csv_of(int64_t rows, const std::vector<TableColumn>& columns) const {
    const std::string path = folder / "t.csv";
    write_table(path, rows, columns);
    return test::read_bytes(path);
  }
  size_t files() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder / "."), {}));
  }
};

TEST(TableFormat, IsChosenByTheEnding) {
  EXPECT_EQ(table_format_of("a/b.csv"), TableFormat::csv);
  EXPECT_EQ(table_format_of("a.h5"), TableFormat::hdf5);
  EXPECT_EQ(table_format_of("a.csv.hdf5"), TableFormat::hdf5);
  for (const char* wrong : {"", "a", "a.txt", "a.h5.gz", "csv", "a.CSV"})
    EXPECT_THAT(test::message_of<UsageError>([&] { table_format_of(wrong); }),
                AllOf(HasSubstr(wrong), HasSubstr(".csv, .h5 or .hdf5")))
        << wrong;
}

TEST(ColumnNames, AreDifferentAndFitForAFile) {
  require_column_names({});
  require_column_names({"a", "A", "a b", "a,b"});
  for (const char* wrong : {"", ".", "a/b"})
    EXPECT_THAT(test::message_of<ConfigError>([&] {
                  require_column_names({"x", wrong});
                }),
                HasSubstr("can't be the name"))
        << wrong;
  EXPECT_THAT(test::message_of<ConfigError>([] {
                require_column_names({"x", "y", "x"});
              }),
              AllOf(HasSubstr("two columns"), HasSubstr("\"x\"")));
  EXPECT_THAT(test::message_of<ConfigError>([] { require_column_names({"index"}); }), HasSubstr("first one"));
}

TEST_F(Tables, ACsvHasALineForEachSample) {
  EXPECT_EQ(csv_of(3, {numbers<int64_t>("prediction", DType::i64, {}, {7, 2, int64_t{1} << 60})}),
            "index,prediction\n0,7\n1,2\n2,1152921504606846976\n");
  EXPECT_EQ(csv_of(0, {numbers<float>("p", DType::f32, {}, {})}), "index,p\n");
  EXPECT_EQ(csv_of(2, {numbers<double>("p", DType::f64, {2}, {0.1, -2, 1e300, 0.5}),
                       numbers<uint8_t>("yes", DType::boolean, {}, {1, 0})}),
            "index,p_0,p_1,yes\n0,0.1,-2,1\n1,1e+300,0.5,0\n");
  EXPECT_EQ(csv_of(1, {numbers<int8_t>("m", DType::i8, {2, 1, 2}, {1, -2, 3, -4})}),
            "index,m_0,m_1,m_2,m_3\n0,1,-2,3,-4\n");
  EXPECT_EQ(csv_of(3, {numbers<float>("p", DType::f32, {},
                                      {std::numeric_limits<float>::quiet_NaN(),
                                       -std::numeric_limits<float>::infinity(), 0.5f})}),
            "index,p\n0,nan\n1,-inf\n2,0.5\n");
}

TEST_F(Tables, ACsvHasTextsInQuotesWhereTheyNeedThem) {
  EXPECT_EQ(csv_of(5, {texts("a,b", {"plain", "with, comma", "with \"quotes\"", "two\nlines", ""})}),
            "index,\"a,b\"\n0,plain\n1,\"with, comma\"\n2,\"with \"\"quotes\"\"\"\n3,\"two\nlines\"\n4,\n");
}

TEST_F(Tables, AnHdf5FileHasADatasetForEach) {
  const std::string path = folder / "t.h5";
  const std::vector<TableColumn> columns = {
      numbers<float>("p", DType::f32, {2}, {0.1f, 0.2f, 0.3f, 0.4f}),
      numbers<uint8_t>("yes", DType::boolean, {}, {1, 0}),
      numbers<uint16_t>("half", DType::bf16, {}, {0x3f80, 0xc000}),  // 1, -2
      texts("who", {"Ada", "b"})};
  write_table(path, 2, columns);
  const Source source(hdf5(path, {"p", "yes", "half", "index"}).with_metadata({"who"}), read_layout(path));
  ASSERT_EQ(source.size(), 2);
  Sample sample;
  source.read(1, sample);
  EXPECT_EQ(sample["p"].type, DType::f32);
  EXPECT_EQ(sample["p"].shape, (std::vector<int64_t>{2}));
  EXPECT_EQ(sample["p"].data<float>()[1], 0.4f);
  EXPECT_EQ(sample["yes"].type, DType::u8);
  EXPECT_EQ(sample["half"].type, DType::f32);
  EXPECT_EQ(sample["half"].number(), -2);
  EXPECT_EQ(sample["index"].type, DType::i64);
  EXPECT_EQ(sample["index"].number(), 1);
  EXPECT_EQ(text_of(sample.metadata["who"]), "b");
  EXPECT_EQ(text_of(source.metadata(0)["who"]), "Ada");

  const std::string first = test::read_bytes(path);
  write_table(path, 2, columns);  // in place of the old one, with the same bytes
  EXPECT_EQ(test::read_bytes(path), first);
  EXPECT_EQ(files(), 1u);
}

TEST_F(Tables, WithoutSamplesAreFilesToo) {
  write_table(folder / "t.h5", 0, {numbers<float>("p", DType::f32, {3}, {}), texts("who", {})});
  const FileLayout layout = read_layout(folder / "t.h5");
  EXPECT_EQ(layout.field("p").shape, (std::vector<int64_t>{0, 3}));
}

TEST_F(Tables, ThatCannotBeWrittenLeaveNothing) {
  for (const char* name : {"absent/x.h5", "absent/x.csv"})
    EXPECT_THROW(write_table(folder / name, 0, {}), IoError) << name;
  EXPECT_EQ(files(), 0u);
}

}  // namespace
}  // namespace lab
