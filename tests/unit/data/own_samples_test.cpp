#include "lab/data/own_samples.h"

#include <atomic>
#include <cmath>
#include <limits>
#include <thread>

#include "digit_files.h"
#include "lab/data/reader.h"

namespace lab {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// Ten points of a parabola, or what a test makes of them; counts how often it is asked.
struct Points : OwnSamples {
  int64_t size() const override { return count; }
  void get(int64_t i, Sample& sample) const override {
    ++asked;
    EXPECT_TRUE(sample.parts.empty());
    EXPECT_TRUE(sample.metadata.empty());
    const float x = static_cast<float>(i) / 10;
    sample.set("x", {1}, std::vector{x});
    sample.set("labels", static_cast<uint8_t>(i));
    sample.metadata.set("half", x < 0.5f ? "lower" : "upper");
    sample.id = 99;
    if (change) change(i, sample);
  }
  std::string identity() const override { return "a parabola"; }
  int64_t count = 10;
  std::function<void(int64_t, Sample&)> change;
  mutable std::atomic<int> asked = 0;
};

Dataset dataset_of(const std::shared_ptr<Points>& points) {
  return own("parabola", [points] { return points; });
}

std::shared_ptr<const Source> open(const Dataset& dataset, int64_t ranks_on_node = 1) {
  return open_datasets({dataset}, {}, ranks_on_node).front();
}

struct OwnTest : test::DigitFiles {
  const std::shared_ptr<Points> points = std::make_shared<Points>();
};

TEST_F(OwnTest, AreReadLikeThoseOfAFile) {
  const auto source = lab::open(dataset_of(points));
  EXPECT_EQ(source->size(), 10);
  EXPECT_EQ(source->path(), "parabola");
  EXPECT_THAT(source->identity(), AllOf(HasSubstr("10 samples of parabola"), HasSubstr("a parabola")));
  Sample sample;
  source->read(3, sample);
  source->read(7, sample);
  EXPECT_EQ(sample.id, 7);
  ASSERT_EQ(sample.parts.size(), 2u);
  EXPECT_EQ(sample["x"].type, DType::f32);
  EXPECT_THAT(sample["x"].shape, ElementsAre(1));
  EXPECT_EQ(sample["x"].number(), static_cast<double>(0.7f));
  EXPECT_EQ(sample["labels"].type, DType::u8);
  EXPECT_EQ(text_of(sample.metadata["half"]), "upper");
  EXPECT_THROW(source->read(10, sample), Bug);
}

TEST_F(OwnTest, StandBesideFilesInOneBatch) {
  const auto with_x = map("x", [](Sample& sample, Rng&) {
    std::erase_if(sample.parts, [](const Part& part) { return part.name == "images"; });
    sample.set("x", {1}, std::vector{-1.0f});
    std::ranges::reverse(sample.parts);
  });
  const auto source = DigitFiles::open(concat({dataset_of(points), a.map(with_x)}).drop(8));
  const HostBatch batch = make_batch(*source, {}, {}, {0, {0, 4}});
  EXPECT_THAT(batch.ids, ElementsAre(8, 9, 10, 11));
  EXPECT_THAT(batch.parts[0].shape, ElementsAre(4, 1));
  ASSERT_EQ(batch.metadata.size(), 4u);
  EXPECT_EQ(text_of(batch.metadata[0]["half"]), "upper");
  EXPECT_EQ(text_of(batch.metadata[3]["names"]), "n1");
}

// One reader per thread, all of one source.
TEST_F(OwnTest, AreReadOnTheReadersThreads) {
  const auto source = lab::open(dataset_of(points));
  const auto main_thread = std::this_thread::get_id();
  std::atomic<int> elsewhere = 0;
  points->change = [&](int64_t, Sample&) { elsewhere += std::this_thread::get_id() != main_thread; };
  std::vector<std::unique_ptr<Reader>> readers;
  for (int r = 0; r < 3; ++r)
    readers.push_back(std::make_unique<Reader>(
        source, Transforms{}, ReaderOptions{}, [next = int64_t{0}]() mutable -> std::optional<BatchRequest> {
          return next < 10 ? std::optional(BatchRequest{0, {std::exchange(next, next + 5), 5}})
                           : std::nullopt;
        }));
  for (const auto& reader : readers)
    for (int64_t first : {0, 5}) EXPECT_EQ(reader->next()->ids.front(), first);
  EXPECT_EQ(elsewhere, 30);
}

TEST_F(OwnTest, SayWhichSampleIsWrong) {
  const auto refusal_of = [&](const std::function<void(int64_t, Sample&)>& change) {
    points->change = change;
    Sample sample;
    std::string said;
    try {
      lab::open(dataset_of(points))->read(4, sample);
    } catch (const Error& error) {
      said = text(static_cast<int>(error.code()), ' ', error.what());
    }
    return said;
  };
  EXPECT_EQ(refusal_of([](int64_t, Sample&) {}), "");
  EXPECT_THAT(refusal_of([](int64_t, Sample&) { throw std::runtime_error("no such point"); }),
              AllOf(HasSubstr("65 sample 4 of parabola"), HasSubstr("no such point")));
  EXPECT_THAT(refusal_of([](int64_t, Sample&) { throw IoError("the disk"); }),
              HasSubstr("74 sample 4 of parabola: the disk"));
  EXPECT_THAT(refusal_of([](int64_t, Sample& sample) { sample.parts.clear(); }), HasSubstr("no parts"));
  EXPECT_THAT(refusal_of([](int64_t, Sample& sample) { sample["x"].shape = {1000}; }),
              AllOf(HasSubstr("'x' of sample 4"), HasSubstr("4 bytes"), HasSubstr("(1000)")));
  EXPECT_THAT(refusal_of([](int64_t, Sample& sample) { sample.set("y", {2}, std::vector{1.0}); }),
              AllOf(HasSubstr("'y'"), HasSubstr("1 values for the shape (2)")));
  EXPECT_THAT(refusal_of([](int64_t, Sample& sample) {
                sample.set("y", {-1, -1}, std::vector{1.0});
              }),
              HasSubstr("(-1, -1)"));
}

TEST_F(OwnTest, RefuseToBeNothing) {
  EXPECT_THROW(own("", [] { return std::make_shared<Points>(); }), ConfigError);
  EXPECT_THROW(own("x", {}), ConfigError);
  EXPECT_THAT(test::message_of<ConfigError>([] { lab::open(own("x", [] { return nullptr; })); }),
              HasSubstr("'x' was opened as nothing"));
  points->count = 0;
  EXPECT_THAT(test::message_of<DataError>([&] { lab::open(dataset_of(points)); }),
              HasSubstr("'parabola' has 0 samples"));
}

TEST_F(OwnTest, AreOpenedOnceForAllTheirSets) {
  int opened = 0;
  const Dataset dataset = own("parabola", [&] {
    ++opened;
    return points;
  });
  EXPECT_EQ(opened, 0) << "a value opens nothing";
  open_all({dataset.take(2), dataset.drop(2), concat({dataset, dataset})});
  EXPECT_EQ(opened, 1);
}

// Every type that parts can have.
TEST(SampleSet, TakesTheTypeOfItsValues) {
  Sample sample;
  const auto set = [&](auto value, DType type) {
    sample.set("x", value);
    EXPECT_EQ(sample.parts.size(), 1u) << "in place of the last one";
    EXPECT_EQ(sample["x"].type, type);
    EXPECT_TRUE(sample["x"].shape.empty());
    EXPECT_EQ(sample["x"].number(), static_cast<double>(value));
  };
  set(true, DType::boolean);
  set(uint8_t{200}, DType::u8);
  set(int8_t{-3}, DType::i8);
  set(uint16_t{60000}, DType::u16);
  set(int16_t{-300}, DType::i16);
  set(uint32_t{1u << 31}, DType::u32);
  set(int32_t{-70000}, DType::i32);
  set(uint64_t{1} << 63, DType::u64);
  set(-(int64_t{1} << 62), DType::i64);
  set(-7ll, DType::i64);
  set(1.5f, DType::f32);
  set(0.1, DType::f64);
}

int64_t samples_kept(Points& points, const Source& source) {
  Sample sample;
  for (int64_t i = 0; i < source.size(); ++i) source.read(i, sample);
  points.asked = 0;
  for (int64_t i = source.size(); i-- > 0;) {
    source.read(i, sample);
    EXPECT_EQ(sample.id, i);
    EXPECT_EQ(sample["labels"].number(), static_cast<double>(i % 256));
    EXPECT_EQ(sample.metadata.entries().size(), 1u);
  }
  return source.size() - points.asked;
}

TEST_F(OwnTest, CacheKeepsWhatFitsAndNoMore) {
  points->count = 100;
  points->change = [](int64_t, Sample& sample) { sample.set("x", {1000}, std::vector<float>(1000, 0.5f)); };
  constexpr int64_t floats = 4000, most_overhead = 600;
  for (const int64_t kept : {1, 10, 60}) {
    const int64_t bytes = kept * (floats + most_overhead);
    const int64_t found = samples_kept(*points, *lab::open(dataset_of(points).cache(bytes)));
    EXPECT_GE(found, kept) << "not so much beside the floats";
    EXPECT_LE(found * floats, bytes) << "the floats alone";
    EXPECT_LE(found, bytes / (floats + 200)) << "what a sample takes beside its floats counts too";
  }
  EXPECT_EQ(samples_kept(*points, *lab::open(dataset_of(points).cache(1))), 0);
  EXPECT_EQ(samples_kept(*points, *lab::open(dataset_of(points).cache(1 << 20))), 100);
}

TEST_F(OwnTest, CacheIsSharedOutAmongTheRanksOfANode) {
  points->count = 100;
  const Dataset cached = dataset_of(points).cache(40000);
  const int64_t alone = samples_kept(*points, *lab::open(cached, 1));
  EXPECT_GT(alone, 20);
  EXPECT_LT(alone, 100);
  EXPECT_EQ(samples_kept(*points, *lab::open(cached, 4)), alone / 4);
}

TEST_F(OwnTest, CacheIsSharedByWhatIsMadeOfIt) {
  const Dataset cached = dataset_of(points).cache(1 << 20);
  const auto sources = open_all(
      {cached.take(6), cached.drop(4), cached.filter("f", {"x"}, [](const Sample&) { return true; })});
  points->asked = 0;
  Sample sample;
  for (const auto& source : sources)
    for (int64_t i = 0; i < source->size(); ++i) source->read(i, sample);
  EXPECT_EQ(points->asked, 9) << "the filter has looked at the first one, and the cache has kept that";
}

TEST_F(OwnTest, CacheForgetsFloatsOfAnotherPrecision) {
  const auto source = lab::open(dataset_of(points).map(scale("x", 2)).cache(1 << 20));
  for (const DType precision : {DType::f32, DType::f64}) {
    Sample sample{.id = 0, .precision = precision, .parts = {}};
    source->read(1, sample);
    EXPECT_EQ(sample["x"].type, precision);
  }
  EXPECT_THROW(dataset_of(points).cache(0), ConfigError);
}

TEST_F(OwnTest, CacheServesManyThreads) {
  points->count = 500;
  const auto source = lab::open(dataset_of(points).cache(100000));
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int64_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      Sample sample;
      for (int64_t k = 0; k < 3000; ++k) {
        const int64_t i = (k * 117 + t * 61) % 500;
        source->read(i, sample);
        wrong += sample.id != i || sample["labels"].number() != static_cast<double>(i % 256);
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_LT(points->asked, 4 * 3000);
}

}  // namespace
}  // namespace lab
