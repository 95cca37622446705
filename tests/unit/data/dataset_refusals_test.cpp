// What cannot be made of datasets, and what is said about it.
#include "digit_files.h"
#include "lab/data/reader.h"

namespace lab {
namespace {

using test::even;
using test::one_up;
using testing::AllOf;
using testing::HasSubstr;

struct DatasetRefusals : test::DigitFiles {};

TEST_F(DatasetRefusals, RefusesPlacesThatAreNotThere) {
  const auto config = [&](const std::function<Dataset()>& make) { return refusal<ConfigError>(make); };
  EXPECT_THAT(config([&] {
                return a.pick({3, 12});
              }),
              AllOf(HasSubstr("sample 12 (entry 1 of the list)"), HasSubstr(a_path),
                    HasSubstr("10 samples; the last one is 9")));
  EXPECT_THAT(config([&] { return a.pick({-1}); }), HasSubstr("the first one is 0"));
  EXPECT_THAT(test::message_of<ConfigError>([&] { a.take(1).pick({1}); }), HasSubstr("the only one is 0"));
  EXPECT_THAT(test::message_of<ConfigError>([&] { a.pick({}); }), HasSubstr("pick some"));
  EXPECT_THAT(test::message_of<ConfigError>([&] { a.slice(4, 3); }), HasSubstr("[4, 3) is no slice"));
  EXPECT_THAT(test::message_of<ConfigError>([&] { a.slice(-1, 3); }), HasSubstr("0 <= first"));
  EXPECT_THAT(refusal<DataError>([&] { return concat({a, b}).drop(14); }), HasSubstr("has 14 samples"));
  EXPECT_THAT(refusal<DataError>([&] {
                return concat({a, b}).drop(12).take(3);
              }),
              AllOf(HasSubstr("3 samples"), HasSubstr("it has 2 there")));
  EXPECT_THAT(refusal<DataError>([&] { return a.pick({1, 2}).take(3); }), HasSubstr("only 2 are left"));
  EXPECT_THAT(
      refusal<DataError>([&] { return a.filter("none", {"labels"}, [](const Sample&) { return false; }); }),
      AllOf(HasSubstr(a_path + " (none) is without samples"), HasSubstr("none of 10")));
}

TEST_F(DatasetRefusals, RefusesWhatSamplesDoNotHave) {
  const auto yes = [](const Sample&) { return true; };
  EXPECT_THAT(refusal<ConfigError>([&] { return a.filter("f", {"label"}, yes); }),
              AllOf(HasSubstr("the filter 'f' needs 'label'"), HasSubstr("did you mean 'labels'?"),
                    HasSubstr("images, labels, patients, names")));
  EXPECT_THAT(refusal<ConfigError>([&] { return a.filter("f", {}, yes); }), HasSubstr("looks at nothing"));
  EXPECT_THAT(refusal<ConfigError>([&] { return a.filter("f", {"labels"}, {}); }), HasSubstr("no function"));
  EXPECT_THAT(refusal<ConfigError>([&] {
                return a.filter("f", {"labels"},
                                [](const Sample& s) { return s.has("labels") && s["images"].number() > 0; });
              }),
              AllOf(HasSubstr("the filter 'f' on sample 0 of " + a_path), HasSubstr("no part 'images'")));
  EXPECT_THAT(refusal<DataError>([&] {
                return a.filter("f", {"labels"}, [](const Sample& s) -> bool {
                  if (s.id == 4) throw std::runtime_error("no idea");
                  return true;
                });
              }),
              AllOf(HasSubstr("sample 4 of " + a_path), HasSubstr("no idea")));
  EXPECT_THAT(refusal<DataError>([&] {
                return concat({a, hdf5(b_path, {"labels"})});
              }),
              AllOf(HasSubstr("those of " + a_path), HasSubstr("(images u8 (2, 3), labels u8 ())"),
                    HasSubstr("(labels u8 ())")));
  EXPECT_THAT(refusal<ConfigError>([&] { return concat({}); }), HasSubstr("no datasets"));
  EXPECT_THAT(refusal<ConfigError>([&] { return concat({a, {}}); }), HasSubstr("dataset 1 of 2"));
  EXPECT_THAT(refusal<ConfigError>([&] {
                return concat({a, b}).with_optional("x");
              }),
              HasSubstr("add it to hdf5(...) itself"));
  EXPECT_THAT(refusal<ConfigError>([&] { return a.map(one_up()).with_metadata({"x"}); }), HasSubstr("'x'"));
}

TEST_F(DatasetRefusals, MakesNothingOfNothing) {
  const Dataset none;
  const std::vector<std::function<void()>> operations = {
      [&] { none.take(1); },
      [&] { none.drop(0); },
      [&] { none.slice(0, 1); },
      [&] { none.pick({0}); },
      [&] { none.map(one_up()); },
      [&] { none.cache(1); },
      [&] { none.split({1}); },
      [&] { none.split_by("labels", {1}); },
      [&] { none.with_optional("x"); },
      [&] { none.filter("even", {"labels"}, even); },
      [&] { Source(none, FileLayout{}); },
  };
  for (const auto& operation : operations)
    EXPECT_THAT(test::message_of<ConfigError>(operation), HasSubstr("empty dataset"));
}

TEST_F(DatasetRefusals, NamesFileAndTransformWhereAMapFails) {
  const auto broken = map("broken", [](Sample& sample, Rng&) {
    if (sample.id == 1) throw std::out_of_range("no such pixel");
  });
  const auto source = open(concat({a, b.map(broken)}));
  Sample sample;
  EXPECT_THAT(test::message_of<DataError>([&] { source->read(11, sample); }),
              AllOf(HasSubstr("broken on sample 1 of " + b_path), HasSubstr("no such pixel")));
  const auto grow = map("grow", [](Sample& s, Rng&) { s["images"].shape = {30, 40}; });
  EXPECT_THAT(test::message_of<DataError>([&] { open(a.map(grow))->read(2, sample); }),
              AllOf(HasSubstr("'images' of sample 2 of " + a_path), HasSubstr("(30, 40)")));
  EXPECT_THAT(test::message_of<DataError>([&] {
                make_batch(*open(concat({a, b})), {broken}, {}, {0, {0, 2}});
              }),
              HasSubstr("broken on sample 1 of " + a_path));
  EXPECT_THAT(test::message_of<DataError>([&] {
                make_batch(*open(concat({b, a})), {one_hot("labels", 104)}, {}, {0, {0, 14}});
                make_batch(*open(concat({b, a})), {one_hot("labels", 9)}, {}, {0, {4, 10}});
              }),
              AllOf(HasSubstr("one_hot(labels, 9) on sample 9 of " + a_path), HasSubstr("label 9")));
}

}  // namespace
}  // namespace lab
