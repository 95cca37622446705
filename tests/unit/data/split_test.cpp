#include <algorithm>
#include <cmath>
#include <numeric>

#include "digit_files.h"
#include "lab/core/random.h"

namespace lab {
namespace {

using test::ids_of;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

using Ints = std::vector<int64_t>;

// As many samples as it is given groups: sample i is of group groups[i].
struct Grouped : OwnSamples {
  explicit Grouped(Ints groups_) : groups(std::move(groups_)) {}
  int64_t size() const override { return std::ssize(groups); }
  void get(int64_t i, Sample& sample) const override {
    sample.set("x", i);
    sample.metadata.set("group", groups[static_cast<size_t>(i)]);
  }
  std::string identity() const override { return ""; }
  Ints groups;
};

Dataset grouped(Ints groups) {
  return own("grouped", [groups = std::move(groups)] { return std::make_shared<Grouped>(groups); });
}

Dataset samples(int64_t count) { return grouped(Ints(static_cast<size_t>(count), 0)); }

std::vector<Ints> parts_of(const std::vector<Dataset>& parts) {
  std::vector<Ints> ids;
  for (const auto& source : open_datasets(parts, {})) ids.push_back(ids_of(*source));
  return ids;
}

// All samples of a dataset of `count`, where the shares are 1 in all: each once, in order within its part.
void expect_cut(const std::vector<Ints>& parts, int64_t count) {
  Ints all;
  for (const Ints& part : parts) {
    EXPECT_TRUE(std::ranges::is_sorted(part));
    all.insert(all.end(), part.begin(), part.end());
  }
  std::ranges::sort(all);
  Ints expected(static_cast<size_t>(count));
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(all, expected);
}

struct Sizes {
  int64_t count;
  std::vector<double> shares;
  Ints sizes;
};

const std::vector<Sizes>& table_of_sizes() {
  static const std::vector<Sizes> all = {
      {10, {0.8, 0.2}, {8, 2}},
      {10, {1}, {10}},
      {10, {1.0 / 3, 1.0 / 3, 1.0 / 3}, {3, 4, 3}},
      {10, {0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
      {3, {0.5, 0.5}, {2, 1}},
      {6000, {0.9, 0.05, 0.05}, {5400, 300, 300}},
      {1001, {0.7, 0.15, 0.15}, {701, 150, 150}},
      {10, {0.5}, {5}},
      {10, {0.25, 0.5}, {3, 5}},
  };
  return all;
}

TEST(Split, GivesTheShares) {
  for (const Sizes& row : table_of_sizes())
    for (const uint64_t seed : {0, 1, 42}) {
      const auto parts = parts_of(samples(row.count).split(row.shares, seed));
      Ints sizes;
      for (const Ints& part : parts) sizes.push_back(std::ssize(part));
      EXPECT_EQ(sizes, row.sizes);
      const double sum = std::accumulate(row.shares.begin(), row.shares.end(), 0.0);
      if (std::abs(sum - 1) < 1e-6) expect_cut(parts, row.count);
    }
}

// Runs are repeated and resumed by these numbers: they must never change.
TEST(Split, IsWhatItAlwaysWas) {
  EXPECT_EQ(parts_of(samples(10).split({0.6, 0.4}, 0)),
            (std::vector<Ints>{{1, 2, 3, 4, 5, 6}, {0, 7, 8, 9}}));
  EXPECT_EQ(parts_of(samples(10).split({0.6, 0.4}, 5)),
            (std::vector<Ints>{{0, 1, 5, 6, 7, 9}, {2, 3, 4, 8}}));
  EXPECT_EQ(parts_of(grouped({7, 7, 3, 9, 3, 7, 9, 1}).split_by("group", {0.5, 0.5}, 1)),
            (std::vector<Ints>{{2, 3, 4, 6, 7}, {0, 1, 5}}));
}

TEST(Split, IsAnotherOneByTheSeed) {
  std::vector<int> chosen(100, 0);
  constexpr int seeds = 400;
  for (uint64_t seed = 0; seed < seeds; ++seed)
    for (const Ints& part : parts_of(samples(100).split({0.25}, seed)))
      for (const int64_t i : part) ++chosen[static_cast<size_t>(i)];
  for (const int count : chosen) EXPECT_NEAR(count, seeds / 4, 5 * std::sqrt(seeds * 0.25 * 0.75));
}

TEST(SplitBy, NeverCutsAGroup) {
  Rng rng(3);
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const int64_t count = 40 + rng.integer(0, 60), kinds = rng.integer(8, 20);
    Ints groups;
    for (int64_t i = 0; i < count; ++i) groups.push_back(rng.integer(0, kinds - 1) * rng.integer(0, 1));
    int64_t largest = 0;
    for (const int64_t group : groups)
      largest = std::max<int64_t>(largest, std::ranges::count(groups, group));
    // Two large parts, so that no group is too big for one.
    std::vector<Ints> parts;
    try {
      parts = parts_of(grouped(groups).split_by("group", {0.5, 0.5}, seed));
    } catch (const DataError&) {
      EXPECT_GT(2 * largest, count) << "only one huge group may leave a part without any";
      continue;
    }
    expect_cut(parts, count);
    for (const int64_t group : groups) {
      int in = 0;
      for (const Ints& part : parts)
        in += std::ranges::any_of(part, [&](int64_t i) { return groups[static_cast<size_t>(i)] == group; });
      EXPECT_EQ(in, 1) << "group " << group << " of seed " << seed;
    }
    EXPECT_NEAR(static_cast<double>(parts[0].size()), static_cast<double>(count) / 2,
                static_cast<double>(largest) / 2 + 1);
  }
}

// Where each group is one sample it is a split like any other; where there are many, the shares hold.
TEST(SplitBy, ComesNearToTheShares) {
  Ints groups;
  for (int64_t i = 0; i < 3000; ++i) groups.push_back(i / 3);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto parts = parts_of(grouped(groups).split_by("group", {0.7, 0.2, 0.1}, seed));
    EXPECT_NEAR(static_cast<double>(parts[0].size()), 2100, 2);
    EXPECT_NEAR(static_cast<double>(parts[1].size()), 600, 3);
    expect_cut(parts, 3000);
  }
}

// As floating numbers all of them would be one.
TEST(SplitBy, TellsLargeNumbersApart) {
  const auto large =
      map("large", [](Sample& sample, Rng&) { sample.set("x", (int64_t{1} << 60) + sample.id); });
  const auto parts = parts_of(samples(10).map(large).split_by("x", {0.5, 0.5}));
  EXPECT_EQ(parts[0].size(), 5u);
  expect_cut(parts, 10);
}

TEST(SplitBy, ReadsTheGroupsOnceForAllParts) {
  int asked = 0;
  struct Counted : Grouped {
    Counted(Ints groups_, int& asked_) : Grouped(std::move(groups_)), asked(asked_) {}
    void get(int64_t i, Sample& sample) const override {
      ++asked;
      Grouped::get(i, sample);
    }
    int& asked;
  };
  const Dataset dataset = own("counted", [&] {
    return std::make_shared<Counted>(Ints{1, 2, 3, 4, 5, 6}, asked);
  });
  parts_of(dataset.split_by("group", {0.3, 0.3, 0.4}));
  EXPECT_EQ(asked, 7) << "and one, which shows what they are like";
}

struct SplitFiles : test::DigitFiles {};

// A patient of both files, by a number as metadata, as a part, and by a text.
TEST_F(SplitFiles, KeepGroupsTogetherAcrossFiles) {
  const Dataset as_part = concat({hdf5(a_path, {"patients"}), hdf5(b_path, {"patients"})});
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto parts = open_all(concat({a, b}).split_by("patients", {0.5, 0.5}, seed));
    for (const auto& part : parts) {
      const Ints ids = ids_of(*part);
      EXPECT_EQ(std::ranges::count(ids, 8), std::ranges::count(ids, 10)) << "patient 4";
      EXPECT_EQ(std::ranges::count(ids, 9), std::ranges::count(ids, 11));
      EXPECT_EQ(std::ranges::count(ids, 0), std::ranges::count(ids, 1)) << "patient 0";
    }
    const auto by_part = open_all(as_part.split_by("patients", {0.5, 0.5}, seed));
    EXPECT_EQ(ids_of(*by_part[0]), ids_of(*parts[0])) << "a part or metadata: the same groups";
  }
  for (const auto& part : open_all(concat({a, b}).split_by("names", {0.5, 0.5}))) {
    const Ints ids = ids_of(*part);
    for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(std::ranges::count(ids, i), std::ranges::count(ids, 10 + i));
  }
}

TEST_F(SplitFiles, RefuseWhatCannotBe) {
  const auto at_once = [&](std::vector<double> shares) {
    return test::message_of<ConfigError>([&] { a.split(shares); });
  };
  EXPECT_THAT(at_once({}), HasSubstr("0 parts"));
  EXPECT_THAT(at_once({0.5, 0}), AllOf(HasSubstr(a_path), HasSubstr("the share 0 is not in (0, 1]")));
  EXPECT_THAT(at_once({-0.5}), HasSubstr("-0.5"));
  EXPECT_THAT(at_once({std::nan("")}), HasSubstr("nan"));
  EXPECT_THAT(at_once({0.7, 0.7}), HasSubstr("1.4 in all"));
  EXPECT_THAT(at_once(std::vector<double>(101, 0.001)), HasSubstr("101 parts"));
  EXPECT_EQ(at_once({0.1, 0.2, 0.7}), "");
  EXPECT_THAT(test::message_of<ConfigError>([&] { a.split_by("", {1}); }), HasSubstr("without a name"));
  EXPECT_THAT(refusal<ConfigError>([&] { return a.split_by("patient", {1})[0]; }),
              AllOf(HasSubstr("a split needs 'patient'"), HasSubstr("did you mean 'patients'?")));
  EXPECT_THAT(refusal<DataError>([&] { return a.split_by("images", {1})[0]; }),
              HasSubstr("one number is wanted"));
  EXPECT_THAT(refusal<DataError>([&] {
                return a.split({0.99, 0.01})[1];
              }),
              AllOf(HasSubstr("(part 2 of 2) is without samples"), HasSubstr("0.01")));
  EXPECT_THAT(refusal<DataError>([&] {
                return samples(10).split_by("group", {0.2, 0.8})[0];
              }),
              HasSubstr("whole groups of one 'group'"));
  const Dataset with_nan = a.map(map("nan", [](Sample& sample, Rng&) {
    sample.metadata.set("patients", sample.id == 7 ? std::nan("") : 1.0);
  }));
  EXPECT_THAT(refusal<DataError>([&] { return with_nan.split_by("patients", {1})[0]; }),
              AllOf(HasSubstr("a split by 'patients' on sample 7 of " + a_path), HasSubstr("not a number")));
}

TEST_F(SplitFiles, AreDatasetsLikeOthers) {
  const auto parts = a.split({0.5, 0.5}, 3);
  const auto both = open_all({concat({parts[0], parts[1]}), parts[0].take(2), parts[1].drop(4)});
  EXPECT_EQ(both[0]->size(), 10);
  EXPECT_EQ(both[1]->size(), 2);
  EXPECT_EQ(both[2]->size(), 1);
  EXPECT_THAT(both[1]->path(), HasSubstr("(part 1 of 2)"));
  EXPECT_EQ(both[1]->identity(), open(a.split({0.5, 0.5}, 3)[0].take(2))->identity());
}

}  // namespace
}  // namespace lab
