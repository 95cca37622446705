// What datasets are made of others: which samples, in which order, with which ids.
#include <set>

#include "digit_files.h"
#include "lab/data/reader.h"

namespace lab {
namespace {

using test::even;
using test::ids_of;
using test::labels_of;
using test::one_up;
using testing::ElementsAre;
using testing::HasSubstr;

using Ints = std::vector<int64_t>;

struct Case {
  const char* name;
  std::function<Dataset(const Dataset& a, const Dataset& b)> make;
  Ints ids;
  std::vector<int> labels;
};

const std::vector<Case>& cases() {
  using D = const Dataset&;
  static const std::vector<Case> all = {
      {"slice", [](D a, D) { return a.slice(2, 5); }, {2, 3, 4}, {2, 3, 4}},
      {"slice of a slice", [](D a, D) { return a.slice(2, 8).slice(1, 3); }, {3, 4}, {3, 4}},
      {"pick",
       [](D a, D) {
         return a.pick({7, 0, 7});
       },
       {7, 0, 7},
       {7, 0, 7}},
      {"pick behind drop",
       [](D a, D) {
         return a.drop(3).pick({0, 6});
       },
       {3, 9},
       {3, 9}},
      {"drop behind pick",
       [](D a, D) {
         return a.pick({9, 8, 1}).drop(1);
       },
       {8, 1},
       {8, 1}},
      {"take behind pick",
       [](D a, D) {
         return a.pick({9, 8, 1}).take(2);
       },
       {9, 8},
       {9, 8}},
      {"pick of a pick",
       [](D a, D) {
         return a.pick({9, 8, 1}).pick({2, 0});
       },
       {1, 9},
       {1, 9}},
      {"filter", [](D a, D) { return a.filter("even", {"labels"}, even); }, {0, 2, 4, 6, 8}, {0, 2, 4, 6, 8}},
      {"filter by metadata",
       [](D a, D) {
         return a.filter("patient 3", {"patients"}, [](const Sample& sample) {
           return std::get<int64_t>(sample.metadata["patients"]) == 3;
         });
       },
       {6, 7},
       {6, 7}},
      {"drop and take behind filter",
       [](D a, D) { return a.filter("even", {"labels"}, even).drop(1).take(2); },
       {2, 4},
       {2, 4}},
      {"concat of one", [](D a, D) { return concat({a.take(2)}); }, {0, 1}, {0, 1}},
      {"concat",
       [](D a, D b) {
         return concat({a.drop(8), b});
       },
       {8, 9, 10, 11, 12, 13},
       {8, 9, 100, 101, 102, 103}},
      {"concat the other way",
       [](D a, D b) {
         return concat({b, a.take(2)});
       },
       {0, 1, 2, 3, 4, 5},
       {100, 101, 102, 103, 0, 1}},
      {"concat of a file with itself",
       [](D a, D) {
         return concat({a.drop(8), a.take(1)});
       },
       {8, 9, 10},
       {8, 9, 0}},
      {"concat of concats",
       [](D a, D b) {
         return concat({concat({b.take(1), a.take(1)}), concat({a.take(1), b.take(1)})});
       },
       {0, 4, 14, 24},
       {100, 0, 0, 100}},
      {"slice across the seam",
       [](D a, D b) {
         return concat({a, b}).slice(8, 12);
       },
       {8, 9, 10, 11},
       {8, 9, 100, 101}},
      {"filter of a concat",
       [](D a, D b) {
         return concat({a, b}).filter("even", {"labels"}, even).drop(4);
       },
       {8, 10, 12},
       {8, 100, 102}},
      {"pick of a filter of a concat",
       [](D a, D b) {
         return concat({a, b}).filter("even", {"labels"}, even).pick({6, 0});
       },
       {12, 0},
       {102, 0}},
      {"map", [](D a, D) { return a.take(3).map(one_up()); }, {0, 1, 2}, {1, 2, 3}},
      {"map twice", [](D a, D) { return a.take(2).map(one_up()).map(one_up() + one_up()); }, {0, 1}, {3, 4}},
      {"filter behind map",
       [](D a, D) { return a.take(6).map(one_up()).filter("even", {"labels"}, even); },
       {1, 3, 5},
       {2, 4, 6}},
      {"map behind filter",
       [](D a, D) { return a.take(6).filter("even", {"labels"}, even).map(one_up()); },
       {0, 2, 4},
       {1, 3, 5}},
      {"map of one member",
       [](D a, D b) {
         return concat({a.take(2).map(one_up()), b.take(1)});
       },
       {0, 1, 10},
       {1, 2, 100}},
      {"cache", [](D a, D) { return a.cache(1 << 20).take(3); }, {0, 1, 2}, {0, 1, 2}},
      {"all of them",
       [](D a, D b) {
         return concat({a.pick({5, 4, 3, 2}), b.map(one_up())})
             .cache(1 << 20)
             .filter("even", {"labels"}, even)
             .map(one_up())
             .drop(1);
       },
       {2, 11, 13},
       {3, 103, 105}},
  };
  return all;
}

struct DatasetAlgebra : test::DigitFiles {};

TEST_F(DatasetAlgebra, ChoosesTheseSamples) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const auto source = open(c.make(a, b));
    EXPECT_EQ(source->size(), std::ssize(c.ids));
    EXPECT_EQ(ids_of(*source), c.ids);
    EXPECT_EQ(labels_of(*source), c.labels);
    EXPECT_EQ(labels_of(*source), c.labels) << "the second time";
    EXPECT_EQ(open(c.make(a, b))->identity(), source->identity());
  }
}

TEST_F(DatasetAlgebra, LeavesWhatItIsMadeOf) {
  for (const Case& c : cases()) c.make(a, b);
  EXPECT_EQ(a.first(), 0);
  EXPECT_EQ(a.count(), -1);
  EXPECT_THAT(labels_of(*open(a)), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
}

// Images follow their labels through all of it.
TEST_F(DatasetAlgebra, KeepsPartsAndMetadataTogether) {
  const auto source = open(concat({a, b}).pick({12, 3}));
  const auto pixels = test::numbers<uint8_t>(60);
  Sample sample;
  source->read(1, sample);
  ASSERT_EQ(sample.parts.size(), 2u);
  const Part& image = sample["images"];
  EXPECT_TRUE(std::equal(pixels.begin() + 18, pixels.begin() + 24, image.data<uint8_t>()));
  EXPECT_EQ(text_of(sample.metadata["names"]), "n3");
  EXPECT_EQ(text_of(source->metadata(0)["patients"]), "5");
  EXPECT_EQ(source->place(0), "sample 2 of " + b_path);
  EXPECT_EQ(source->place(1), "sample 3 of " + a_path);
  EXPECT_THAT(source->path(), HasSubstr(a_path + " + " + b_path + " (from sample 10 on)"));
}

// Each rank makes its share of every batch: together the same samples with the same bits, however many ranks.
TEST_F(DatasetAlgebra, HasOneOrderForAnyNumberOfRanks) {
  const Transforms transforms = {shift("images", 1), flip_vertical("images", 0.5)};
  for (const Case& c : cases())
    for (const uint64_t seed : {0, 1, 7}) {
      SCOPED_TRACE(text(c.name, ", seed ", seed));
      const auto source = open(c.make(a, b));
      const ReaderOptions options{.seed = seed, .shuffle = true};
      const HostBatch whole = make_batch(*source, transforms, options, {2, {0, source->size()}});
      for (int64_t p = 0; p < source->size(); ++p)
        EXPECT_EQ(whole.ids[static_cast<size_t>(p)],
                  c.ids[static_cast<size_t>(shuffled(seed, 2, source->size(), p))]);
      for (const int64_t ranks : {2, 3, 4, 8}) {
        std::string bytes;
        for (int64_t rank = 0; rank < ranks; ++rank) {
          const auto own = open(c.make(a, b));
          const HostBatch batch = make_batch(*own, transforms, options, {2, shard(own->size(), rank, ranks)});
          bytes.append(reinterpret_cast<const char*>(batch.parts[0].bytes.get()), batch.ids.size() * 6);
        }
        EXPECT_EQ(bytes, std::string(reinterpret_cast<const char*>(whole.parts[0].bytes.get()),
                                     whole.ids.size() * 6));
      }
    }
}

// Ranks compare it before the first step: whatever makes other samples makes another text.
TEST_F(DatasetAlgebra, IsToldApartByItsIdentity) {
  std::set<std::string> identities;
  size_t count = 0;
  const auto add = [&](const Dataset& dataset) {
    identities.insert(open(dataset)->identity());
    EXPECT_EQ(identities.size(), ++count) << open(dataset)->identity();
  };
  for (const Case& c : cases())
    if (std::string(c.name) != "concat of one") add(c.make(a, b));
  add(a);
  add(b);
  add(hdf5(a_path, {"images", "labels"}));
  add(a.pick({0, 1}));
  add(a.pick({1, 0}));
  for (const uint64_t seed : {0, 1})
    for (const Dataset& part : a.split({0.5, 0.5}, seed)) add(part);
  EXPECT_EQ(open(a.cache(1000))->identity(), open(a)->identity()) << "a cache changes nothing";
}

TEST_F(DatasetAlgebra, CountsWhereThatIsKnown) {
  const std::vector<std::pair<Dataset, int64_t>> table = {
      {a, -1},
      {a.take(6), 6},
      {a.take(6).drop(2), 4},
      {a.pick({1, 2, 3}), 3},
      {a.pick({1, 2, 3}).drop(1), 2},
      {concat({a.take(6), b.take(2)}), 8},
      {concat({a.take(6), b}), -1},
      {concat({b, a.take(6), b.take(1)}), -1},
      {a.take(6).map(one_up()), 6},
      {a.take(6).cache(1), 6},
      {a.take(6).filter("even", {"labels"}, even), -1},
      {a.take(6).split({1})[0], -1},
  };
  for (const auto& [dataset, count] : table) EXPECT_EQ(dataset.count(), count) << dataset.path();
}

TEST_F(DatasetAlgebra, NamesItsFilesOnce) {
  EXPECT_THAT(concat({a, b.take(2), a.drop(4)}).filter("even", {"labels"}, even).files(),
              ElementsAre(a_path, b_path));
  EXPECT_TRUE(Dataset().files().empty());
  EXPECT_FALSE(concat({a, b}).caches());
  EXPECT_TRUE(concat({a, b.cache(1)}).map(one_up()).caches());
}

// A filter is asked once for each sample, though three datasets are made of it.
TEST_F(DatasetAlgebra, OpensWhatIsSharedOnce) {
  int asked = 0;
  const Dataset evens = a.filter("even", {"labels"}, [&](const Sample& sample) {
    ++asked;
    EXPECT_FALSE(sample.has("images")) << "it was not asked for";
    EXPECT_TRUE(sample.metadata.empty());
    return even(sample);
  });
  const auto sources = open_all({evens.take(2), {}, evens.drop(2), concat({evens, b})});
  EXPECT_EQ(asked, 10);
  EXPECT_EQ(sources[1], nullptr);
  EXPECT_THAT(labels_of(*sources[0]), ElementsAre(0, 2));
  EXPECT_THAT(labels_of(*sources[2]), ElementsAre(4, 6, 8));
}

// Its random numbers belong to the sample: any selection, epoch, seed and rank has the same.
TEST_F(DatasetAlgebra, MapsDrawTheSameNumbersAlways) {
  const auto draw = [](const char* name) {
    return map(name,
               [](Sample& sample, Rng& rng) { sample.set(text("drawn", sample.parts.size()), rng.bits()); });
  };
  const Dataset drawn = a.map(draw("once") + draw("twice")).map(draw("again"));
  const auto numbers = [&](const Dataset& dataset, int64_t i) {
    Sample sample;
    open(dataset)->read(i, sample);
    std::vector<double> out;
    for (size_t p = 2; p < 5; ++p) out.push_back(sample.parts.at(p).number());
    return out;
  };
  std::set<double> different;
  for (int64_t i = 0; i < 10; ++i)
    for (const double number : numbers(drawn, i)) different.insert(number);
  EXPECT_EQ(different.size(), 30u);
  EXPECT_EQ(numbers(drawn.pick({8, 3}), 1), numbers(drawn, 3));
  EXPECT_EQ(numbers(drawn.drop(3).cache(1 << 20), 0), numbers(drawn, 3));
  EXPECT_EQ(numbers(a.drop(3).map(draw("once") + draw("twice") + draw("again")), 0), numbers(drawn, 3));
  EXPECT_FALSE(different.contains(Rng(0, Purpose::transform, 0, 3, 0).bits())) << "those of an epoch";
}

TEST_F(DatasetAlgebra, MapsMakeFloatsOfTheRunsPrecision) {
  const Dataset floats = a.map(divide("images", 255)).cache(1 << 20);
  const auto source = open(floats);
  for (const DType precision : {DType::f32, DType::f64, DType::f32}) {
    const HostBatch batch = make_batch(*source, {}, {.precision = precision}, {0, {0, 2}});
    EXPECT_EQ(batch.parts[0].type, precision);
  }
}

}  // namespace
}  // namespace lab
