#include "lab/data/reader.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <limits>
#include <mutex>
#include <numeric>
#include <thread>

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

// 50 images of 3 x 4 and their labels.
struct BatchTest : testing::Test {
  BatchTest() {
    std::vector<uint8_t> labels(50);
    std::iota(labels.begin(), labels.end(), uint8_t{100});
    {
      const NewFile file(path);
      add_u8(file, "images", {50, 3, 4}, numbers<uint8_t>(600));
      add_u8(file, "labels", {50}, labels);
    }
    source = std::make_shared<const Source>(hdf5(path, {"images", "labels"}), read_layout(path));
  }
  test::TemporaryFolder folder;
  const std::string path = folder / "x.h5";
  std::shared_ptr<const Source> source;
};

template <class T>
std::vector<T> values_of(const HostBatch::Part& part) {
  int64_t count = 1;
  for (const int64_t extent : part.shape) count *= extent;
  std::vector<T> out(static_cast<size_t>(count));
  std::memcpy(out.data(), part.bytes.get(), out.size() * sizeof(T));
  return out;
}

bool same(const HostBatch& a, const HostBatch& b) {
  if (a.ids != b.ids || a.parts.size() != b.parts.size()) return false;
  for (size_t i = 0; i < a.parts.size(); ++i)
    if (a.parts[i].name != b.parts[i].name || a.parts[i].type != b.parts[i].type ||
        a.parts[i].shape != b.parts[i].shape ||
        values_of<std::byte>(a.parts[i]) != values_of<std::byte>(b.parts[i]))
      return false;
  return true;
}

// Positions 0 to n, in batches of `size`, for `epochs` epochs.
std::function<std::optional<BatchRequest>()> plan_of(int64_t n, int64_t size, uint64_t epochs = 1) {
  return [=, epoch = uint64_t{0}, first = int64_t{0}]() mutable -> std::optional<BatchRequest> {
    if (first >= n) {
      first = 0;
      ++epoch;
    }
    if (epoch >= epochs) return std::nullopt;
    const int64_t count = std::min(size, n - first);
    return BatchRequest{epoch, {std::exchange(first, first + count), count}};
  };
}

TEST_F(BatchTest, HoldsTheSamplesAtItsPositions) {
  const HostBatch batch = make_batch(*source, {}, {}, {0, {7, 3}});
  EXPECT_THAT(batch.ids, ElementsAre(7, 8, 9));
  EXPECT_EQ(batch.request.positions, (Range{7, 3}));
  ASSERT_EQ(batch.parts.size(), 2u);
  EXPECT_EQ(batch.parts[0].name, "images");
  EXPECT_EQ(batch.parts[0].type, DType::u8);
  EXPECT_THAT(batch.parts[0].shape, ElementsAre(3, 3, 4));
  const auto all = numbers<uint8_t>(600);
  EXPECT_EQ(values_of<uint8_t>(batch.parts[0]),
            std::vector<uint8_t>(all.begin() + 7 * 12, all.begin() + 10 * 12));
  EXPECT_THAT(batch.parts[1].shape, ElementsAre(3));
  EXPECT_THAT(values_of<uint8_t>(batch.parts[1]), ElementsAre(107, 108, 109));
  for (const auto& part : batch.parts) EXPECT_EQ(reinterpret_cast<uintptr_t>(part.bytes.get()) % 64, 0u);
}

TEST_F(BatchTest, ShufflesByTheEpochsOrder) {
  const ReaderOptions options{.seed = 5, .shuffle = true};
  const HostBatch batch = make_batch(*source, {}, options, {3, {10, 4}});
  for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(batch.ids[static_cast<size_t>(i)], shuffled(5, 3, 50, 10 + i));
  const Source half(hdf5(path, {"labels"}).drop(25), read_layout(path));
  const HostBatch other = make_batch(half, {}, options, {3, {0, 25}});
  for (size_t i = 0; i < 25; ++i) {
    EXPECT_EQ(other.ids[i], 25 + shuffled(5, 3, 25, static_cast<int64_t>(i)));
    EXPECT_EQ(values_of<uint8_t>(other.parts[0])[i], 100 + other.ids[i]);
  }
}

TEST_F(BatchTest, TransformsByTheRunsPrecision) {
  const Transforms transforms = {divide("images", 255), add_channel("images"), class_index("labels", 200)};
  const HostBatch f32 = make_batch(*source, transforms, {}, {0, {0, 2}});
  EXPECT_EQ(f32.parts[0].type, DType::f32);
  EXPECT_THAT(f32.parts[0].shape, ElementsAre(2, 1, 3, 4));
  EXPECT_EQ(values_of<float>(f32.parts[0])[1], 7 / 255.0f);
  EXPECT_EQ(f32.parts[1].type, DType::i64);
  EXPECT_THAT(values_of<int64_t>(f32.parts[1]), ElementsAre(100, 101));
  const HostBatch f64 = make_batch(*source, transforms, {.precision = DType::f64}, {0, {0, 2}});
  EXPECT_EQ(f64.parts[0].type, DType::f64);
  EXPECT_EQ(values_of<double>(f64.parts[0])[1], 7 / 255.0);
}

// The batch a sample is in, and who makes it, must not matter: ranks cut the epoch differently.
TEST_F(BatchTest, RandomNumbersBelongToTheSample) {
  const Transforms transforms = {shift("images", 2), flip_vertical("images", 0.5), shift("images", 2)};
  const ReaderOptions options{.seed = 11, .shuffle = true};
  const HostBatch whole = make_batch(*source, transforms, options, {2, {0, 50}});
  const auto pixels = values_of<uint8_t>(whole.parts[0]);
  for (int64_t p = 0; p < 50; ++p) {
    const HostBatch one = make_batch(*source, transforms, options, {2, {p, 1}});
    EXPECT_EQ(one.ids[0], whole.ids[static_cast<size_t>(p)]);
    EXPECT_EQ(values_of<uint8_t>(one.parts[0]),
              std::vector<uint8_t>(pixels.begin() + p * 12, pixels.begin() + p * 12 + 12));
  }
}

TEST_F(BatchTest, RandomNumbersDifferBySeedEpochSampleAndPlace) {
  std::vector<uint32_t> drawn;
  const auto draw = map("draw", [&](Sample&, Rng& rng) { drawn.push_back(rng.bits()); });
  for (const uint64_t seed : {0, 1})
    for (const uint64_t epoch : {0, 1}) make_batch(*source, {draw, draw}, {.seed = seed}, {epoch, {0, 2}});
  ASSERT_EQ(drawn.size(), 16u);
  EXPECT_EQ(drawn[3], Rng(0, Purpose::transform, 0, 1, 1).bits());  // seed 0, epoch 0, sample 1, second place
  std::ranges::sort(drawn);
  EXPECT_EQ(std::ranges::adjacent_find(drawn), drawn.end());
}

TEST_F(BatchTest, OfNoSamplesHasPartsWithoutRows) {
  const HostBatch batch =
      make_batch(*source, {divide("images", 255), add_channel("images")}, {}, {0, {50, 0}});
  EXPECT_TRUE(batch.ids.empty());
  ASSERT_EQ(batch.parts.size(), 2u);
  EXPECT_THAT(batch.parts[0].shape, ElementsAre(0, 1, 3, 4));
  EXPECT_EQ(batch.parts[0].type, DType::f32);
  EXPECT_NE(batch.parts[0].bytes, nullptr);
}

TEST_F(BatchTest, RefusesPositionsThatAreNotThere) {
  EXPECT_THROW(make_batch(*source, {}, {}, {0, {49, 2}}), Bug);
  EXPECT_THROW(make_batch(*source, {}, {}, {0, {-1, 2}}), Bug);
}

TEST_F(BatchTest, RefusesSamplesThatDiffer) {
  const auto crop = map("crop", [](Sample& sample, Rng&) {
    if (sample.id == 2) sample["images"].shape = {4, 3};
  });
  EXPECT_THAT(
      test::message_of<DataError>([&] {
        make_batch(*source, {crop}, {}, {0, {0, 4}});
      }),
      AllOf(HasSubstr("sample 2 of " + path), HasSubstr("images u8 (4, 3)"), HasSubstr("unlike sample 0")));
  const auto grow = map("grow", [](Sample& sample, Rng&) {
    if (sample.id == 3) sample.parts.push_back(sample.parts[1]);
  });
  EXPECT_THROW(make_batch(*source, {grow}, {}, {0, {0, 4}}), DataError);
}

TEST_F(BatchTest, RefusesShapesThatTheirBytesDoNotFit) {
  const auto grow = map("grow", [](Sample& sample, Rng&) { sample["images"].shape = {30, 40}; });
  for (const Range positions : {Range{3, 2}, Range{3, 0}})
    EXPECT_THAT(
        test::message_of<DataError>([&] {
          make_batch(*source, {grow}, {}, {0, positions});
        }),
        AllOf(HasSubstr("'images' of sample"), HasSubstr("12 bytes"), HasSubstr("u8 of the shape (30, 40)")));
}

TEST_F(BatchTest, SaysWhichTransformFailedOnWhichSample) {
  const auto broken = map("broken", [](Sample& sample, Rng&) {
    if (sample.id == 1) throw std::out_of_range("no such pixel");
  });
  EXPECT_THAT(test::message_of<DataError>([&] {
                make_batch(*source, {broken}, {}, {0, {0, 2}});
              }),
              AllOf(HasSubstr("broken on sample 1"), HasSubstr(path), HasSubstr("no such pixel")));
  EXPECT_THAT(test::message_of<DataError>([&] {
                make_batch(*source, {one_hot("labels", 110)}, {}, {0, {8, 9}});
              }),
              AllOf(HasSubstr("one_hot(labels, 110) on sample 10"), HasSubstr("label 110"), HasSubstr(path)));
  EXPECT_THAT(test::message_of<ConfigError>([&] {
                make_batch(*source, {shift("image", 1)}, {}, {0, {0, 1}});
              }),
              AllOf(HasSubstr("shift(image, 1)"), HasSubstr("did you mean 'images'?")));
}

struct NotFinite : testing::Test {
  test::TemporaryFolder folder;
  const std::string path = folder / "x.h5";
  template <class T>
  std::string refusal(hid_t type, const std::vector<T>& values, Range positions) {
    {
      const NewFile file(path);
      add_dataset(file, "x", type, type, {values.size() / 2, 2}, values.data());
    }
    const Source source(hdf5(path, {"x"}), read_layout(path));
    return test::message_of<DataError>([&] { make_batch(source, {}, {}, {0, positions}); });
  }
};

TEST_F(NotFinite, ValuesAreNamedBySample) {
  std::vector<float> values(200, 1.0f);
  for (const size_t id : {5, 17, 40, 41, 77, 78, 99}) values[id * 2 + id % 2] = std::nanf("");
  EXPECT_THAT(refusal(H5T_NATIVE_FLOAT, values, {0, 100}),
              AllOf(HasSubstr("NaN or infinity in 'x' (samples 5, 17, 40, 41, 77 ... [7]) of " + path),
                    HasSubstr("lab_data verify")));
  EXPECT_EQ(refusal(H5T_NATIVE_FLOAT, values, {42, 35}), "");
  EXPECT_THAT(refusal(H5T_NATIVE_FLOAT, values, {18, 23}), HasSubstr("(samples 40)"));
}

TEST_F(NotFinite, EveryFloatTypeIsLookedAt) {
  const double infinity = std::numeric_limits<double>::infinity(), most = std::numeric_limits<double>::max();
  EXPECT_EQ(refusal<double>(H5T_NATIVE_DOUBLE, {most, -most, 0, 5e-324}, {0, 2}), "");
  EXPECT_NE(refusal<double>(H5T_NATIVE_DOUBLE, {0, 0, infinity, 0}, {0, 2}), "");
  EXPECT_NE(refusal<double>(H5T_NATIVE_DOUBLE, {0, 0, 0, -infinity}, {0, 2}), "");
  const hid_t half = H5Tcopy(H5T_IEEE_F32LE);
  H5Tset_fields(half, 15, 10, 5, 0, 10);
  H5Tset_size(half, 2);
  H5Tset_ebias(half, 15);
  EXPECT_EQ(refusal<uint16_t>(half, {0x7bff, 0xfbff, 0, 1}, {0, 2}), "");
  EXPECT_NE(refusal<uint16_t>(half, {0, 0x7c00}, {0, 1}), "");
  EXPECT_NE(refusal<uint16_t>(half, {0, 0x7e01}, {0, 1}), "");
  H5Tclose(half);
  EXPECT_EQ(refusal<uint32_t>(H5T_NATIVE_UINT32, {0x7f800000, 0xffffffff}, {0, 1}),
            "");  // integers, whatever the bits
}

struct ReaderTest : BatchTest {};

TEST_F(ReaderTest, GivesAllBatchesInOrder) {
  for (const int depth : {1, 2, 7}) {
    const ReaderOptions options{.seed = 3, .shuffle = true, .depth = depth};
    const Transforms transforms = {shift("images", 1), divide("images", 255)};
    Reader reader(source, transforms, options, plan_of(50, 16, 3));
    auto plan = plan_of(50, 16, 3);
    while (const auto request = plan()) {
      const auto batch = reader.next();
      ASSERT_TRUE(batch);
      EXPECT_TRUE(same(*batch, make_batch(*source, transforms, options, *request)));
    }
    EXPECT_FALSE(reader.next());
    EXPECT_FALSE(reader.next());
    EXPECT_GE(reader.waited_seconds(), 0);
  }
}

TEST_F(ReaderTest, BatchesOutliveIt) {
  std::vector<HostBatch> kept;
  {
    Reader reader(source, {}, {}, plan_of(50, 10));
    while (auto batch = reader.next()) kept.push_back(std::move(*batch));
  }
  ASSERT_EQ(kept.size(), 5u);
  for (int64_t i = 0; i < 5; ++i)
    EXPECT_TRUE(same(kept[static_cast<size_t>(i)], make_batch(*source, {}, {}, {0, {i * 10, 10}})));
}

TEST_F(ReaderTest, ThrowsWhereTheBatchWouldHaveBeen) {
  const auto broken = map("broken", [](Sample& sample, Rng&) {
    if (sample.id == 25) throw DataError("no good");
  });
  Reader reader(source, {broken}, {.depth = 4}, plan_of(50, 10));
  EXPECT_THAT(reader.next()->ids.front(), 0);
  EXPECT_THAT(reader.next()->ids.front(), 10);
  for (int again = 0; again < 2; ++again)
    EXPECT_THAT(test::message_of<DataError>([&] { reader.next(); }), HasSubstr("no good"));
}

TEST_F(ReaderTest, CarriesWhatThePlanThrows) {
  Reader reader(source, {}, {}, []() -> std::optional<BatchRequest> { throw IoError("no plan"); });
  EXPECT_THAT(test::message_of<IoError>([&] { reader.next(); }), HasSubstr("no plan"));
}

TEST_F(ReaderTest, ReadsAheadAsFarAsAskedAndNoFurther) {
  std::atomic<int> asked = 0;
  const auto plan = [&]() -> std::optional<BatchRequest> {
    ++asked;
    asked.notify_all();
    return BatchRequest{0, {0, 1}};
  };
  const auto asked_in_a_while = [&](int least) {
    for (int seen = asked; seen < least; seen = asked) asked.wait(seen);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return asked.load();
  };
  Reader reader(source, {}, {.depth = 4, .small_bytes = 0}, plan);
  EXPECT_EQ(asked_in_a_while(4), 4);
  reader.next();
  EXPECT_EQ(asked_in_a_while(4), 4) << "it wakes when half of them are taken";
  reader.next();
  EXPECT_EQ(asked_in_a_while(6), 6);
  EXPECT_THROW(Reader(source, {}, {.depth = 0}, plan), ConfigError);
}

// Or ranks would be woken for their batches at steps of their own.
TEST_F(ReaderTest, HowFarItReadsDoesNotDependOnWhenItRuns) {
  std::atomic<int> asked = 0, allowed = 4;
  Reader reader(source, {}, {.depth = 4, .small_bytes = 0}, [&]() -> std::optional<BatchRequest> {
    ++asked;
    asked.notify_all();
    for (int now = allowed; asked > now; now = allowed) allowed.wait(now);
    return BatchRequest{0, {0, 1}};
  });
  for (int i = 0; i < 3; ++i) reader.next();  // woken by the second, it is held up
  for (int seen = asked; seen < 5; seen = asked) asked.wait(seen);
  allowed = 100;
  allowed.notify_all();
  for (int seen = asked; seen < 6; seen = asked) asked.wait(seen);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(asked, 6) << "four behind the row that began with the third";
}

TEST_F(ReaderTest, ReadsMoreSmallBatchesAhead) {
  std::atomic<int> asked = 0;
  const auto plan = [&]() -> std::optional<BatchRequest> {
    ++asked;
    asked.notify_all();
    return BatchRequest{0, {0, 1}};
  };
  constexpr size_t batch_bytes = 3 * 4 + 1;
  for (const size_t depth : {size_t{8}, size_t{64}}) {
    asked = 0;
    const Reader reader(source, {}, {.small_bytes = depth < 64 ? (depth + 1) * batch_bytes : size_t{1} << 20},
                        plan);
    for (int seen = asked; std::cmp_less(seen, depth); seen = asked) asked.wait(seen);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_EQ(asked, static_cast<int>(depth));
  }
}

// As a rank gets one at an epoch's end.
TEST_F(ReaderTest, ReadsNoFurtherAheadBehindAnEmptyBatch) {
  std::atomic<int> asked = 0;
  Reader reader(source, {}, {.depth = 2, .small_bytes = 16}, [&]() -> std::optional<BatchRequest> {
    const int64_t count = ++asked == 2 ? 0 : 1;
    asked.notify_all();
    return BatchRequest{0, {0, count}};
  });
  for (int i = 0; i < 2; ++i) reader.next();
  for (int seen = asked; seen < 4; seen = asked) asked.wait(seen);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(asked, 4);
}

TEST_F(ReaderTest, StopsAtOnceWhileItsRingIsFull) {
  for (int i = 0; i < 200; ++i) {
    Reader reader(source, {}, {.depth = 1}, plan_of(50, 5, UINT64_MAX));
    if (i % 2) reader.next();
  }
}

// The batch would take five seconds; the reader goes before its end.
TEST_F(ReaderTest, StopsInTheMiddleOfABatch) {
  std::atomic<int64_t> transformed = 0;
  const auto slow = map("slow", [&](Sample&, Rng&) {
    ++transformed;
    transformed.notify_all();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  });
  {
    Reader reader(source, {slow}, {}, plan_of(50, 50));
    transformed.wait(0);
  }
  EXPECT_LT(transformed, 50);
}

TEST_F(ReaderTest, SeveralShareOneSource) {
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (uint64_t seed = 0; seed < 3; ++seed)
    threads.emplace_back([&, seed] {
      const ReaderOptions options{.seed = seed, .shuffle = true};
      Reader reader(source, {shift("images", 1)}, options, plan_of(50, 8, 2));
      auto plan = plan_of(50, 8, 2);
      while (const auto request = plan())
        good += same(*reader.next(), make_batch(*source, {shift("images", 1)}, options, *request));
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 3 * 2 * 7);
}

}  // namespace
}  // namespace lab
