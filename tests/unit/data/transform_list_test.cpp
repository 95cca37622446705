// Lists of transforms, transforms of several parts, and batches taken apart.
#include <atomic>
#include <thread>

#include "digit_files.h"
#include "lab/data/reader.h"

namespace lab {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// Writes down its letter.
Transform letter(const char* name) {
  return map(name, [name](Sample& sample, Rng&) {
    sample.metadata.set(name, static_cast<int64_t>(sample.metadata.entries().size()));
  });
}

std::string letters(const Transforms& transforms) {
  Sample sample{.id = 0, .parts = {}};
  apply(transforms, sample);
  std::string out;
  for (const auto& [name, place] : sample.metadata.entries()) out += name;
  return out;
}

const Transform a = letter("a"), b = letter("b"), c = letter("c"), d = letter("d");

TEST(TransformList, RunsInItsOrder) {
  const std::vector<std::pair<Transforms, const char*>> table = {
      {{}, ""},
      {a, "a"},
      {{c, a, b}, "cab"},
      {a + b, "ab"},
      {a + b + c, "abc"},
      {a + (b + c), "abc"},
      {(a + b) + (c + d), "abcd"},
      {Transforms{a, b} + c, "abc"},
      {a + Transforms{b, c}, "abc"},
      {Transforms() + a, "a"},
      {(a + b + c + d).slice(1), "bcd"},
      {(a + b + c + d).slice(1, 3), "bc"},
      {(a + b + c + d).slice(0, 0), ""},
      {(a + b + c + d).slice(-2), "cd"},
      {(a + b + c + d).slice(-3, -1), "bc"},
      {(a + b + c + d).slice(4), ""},
      {(a + b + c + d)[0], "a"},
      {(a + b + c + d)[3], "d"},
      {(a + b + c + d)[-1], "d"},
      {(a + b + c + d)[-4], "a"},
      {(a + b + c + d).slice(2) + (a + b), "cdab"},
  };
  for (const auto& [list, expected] : table) {
    EXPECT_EQ(letters(list), expected);
    EXPECT_EQ(list.size(), std::string(expected).size());
    EXPECT_EQ(list.empty(), list.size() == 0);
  }
}

TEST(TransformList, IsAValue) {
  Transforms list = a + b;
  const Transforms longer = list + c;
  list.push_back(d);
  EXPECT_EQ(letters(longer), "abc");
  EXPECT_EQ(letters(list), "abd");
  EXPECT_EQ(list.slice(0, 2), longer.slice(0, 2));
  EXPECT_NE(list, longer);
  EXPECT_NE(a + b, b + a);
  EXPECT_EQ(shift("x", 2) + flip_vertical("x", 0.5), (Transforms{shift("x", 2), flip_vertical("x", 0.5)}));
  EXPECT_NE(Transforms(shift("x", 2)), Transforms(shift("x", 3)));
}

TEST(TransformList, RefusesPlacesThatAreNotThere) {
  const Transforms three = a + b + c;
  const auto said = [](const std::function<void()>& action) { return test::message_of<ConfigError>(action); };
  EXPECT_THAT(said([&] { three[3]; }),
              AllOf(HasSubstr("no transform 3"), HasSubstr("the nearest is 2"), HasSubstr("a, b, c")));
  EXPECT_THAT(said([&] { three[-4]; }), AllOf(HasSubstr("no transform -4"), HasSubstr("the nearest is -3")));
  EXPECT_THAT(said([&] { Transforms()[0]; }), HasSubstr("They are: none"));
  EXPECT_THAT(said([&] { three.slice(4); }), HasSubstr("no place 4"));
  EXPECT_THAT(said([&] { three.slice(0, -5); }), HasSubstr("no place -5"));
  EXPECT_THAT(said([&] { three.slice(2, 1); }), HasSubstr("[2, 1) is no slice of 3 transforms"));
  const Transform hollow{"hollow", nullptr};
  EXPECT_THAT(said([&] { a + hollow; }), HasSubstr("the transform 'hollow' has no function"));
  EXPECT_THAT(said([&] { Transforms{hollow}; }), HasSubstr("'hollow'"));
}

TEST(TransformList, SaysWhichOneFailed) {
  const auto broken = map("broken", [](Sample&, Rng&) { throw std::out_of_range("no such pixel"); });
  Sample sample{.id = 17, .parts = {}};
  EXPECT_THAT(test::message_of<DataError>([&] { apply(a + broken, sample); }),
              HasSubstr("broken on sample 17: no such pixel"));
  EXPECT_THAT(test::message_of<ConfigError>([&] { apply(shift("x", 1), sample); }),
              HasSubstr("shift(x, 1) on sample 17: a sample has no part 'x'; it has none"));
}

// A list is one list, however it was put together: the place in it decides on the random numbers.
TEST(TransformList, DrawsByThePlaceInTheWholeList) {
  const auto draw =
      map("draw", [](Sample& sample, Rng& rng) { sample.set(text("x", sample.parts.size()), rng.bits()); });
  const auto drawn = [&](const Transforms& list, uint64_t seed, uint64_t epoch) {
    Sample sample{.id = 5, .parts = {}};
    apply(list, sample, seed, epoch);
    std::vector<double> out;
    for (const Part& part : sample.parts) out.push_back(part.number());
    return out;
  };
  const auto expected = drawn({draw, draw, draw}, 2, 3);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(expected[i], Rng(2, Purpose::transform, 3, 5, i).bits());
  EXPECT_EQ(drawn(draw + (draw + draw), 2, 3), expected);
  EXPECT_NE(drawn({draw, draw, draw}, 2, 4), expected);
  EXPECT_NE(drawn({draw, draw, draw}, 3, 3), expected);
}

// A stereo pair of the same image.
Sample pair_of(int64_t id) {
  Sample sample{.id = id, .parts = {}};
  for (const char* name : {"left", "right", "depth"})
    sample.set(name, {4, 4}, std::vector<uint8_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
  return sample;
}

TEST(PartsTransform, WorksOnEachOfThem) {
  const auto turned = [](const Transform& transform, int64_t id) {
    Sample sample = pair_of(id);
    apply(transform, sample);
    return sample;
  };
  const auto make = [](const std::string& part) { return shift(part, 2); };
  int64_t same_apart = 0, moved = 0;
  for (int64_t id = 0; id < 100; ++id) {
    const Sample apart = turned(each_part({"left", "right"}, make), id);
    const Sample alike = turned(together({"left", "right"}, make), id);
    same_apart += apart["left"].bytes == apart["right"].bytes;
    moved += alike["left"].bytes != pair_of(id)["left"].bytes;
    EXPECT_EQ(alike["left"].bytes, alike["right"].bytes);
    EXPECT_EQ(alike["left"].bytes, apart["left"].bytes) << "the first draws what it would draw alone";
    EXPECT_EQ(alike["depth"].bytes, pair_of(id)["depth"].bytes) << "it was not named";
    const Sample all = turned(together({}, make), id);
    EXPECT_EQ(all["depth"].bytes, all["left"].bytes) << "without names: all parts";
    EXPECT_EQ(all["left"].bytes, alike["left"].bytes);
  }
  EXPECT_LT(same_apart, 20);
  EXPECT_GT(moved, 80);
}

TEST(PartsTransform, IsKnownByWhatItDoes) {
  const auto make = [](const std::string& part) { return divide(part, 255); };
  EXPECT_EQ(each_part({"x", "y"}, make).name, "each_part(divide(x, 255) + divide(y, 255))");
  EXPECT_EQ(together({}, make).name, "together(divide(*, 255))");
}

TEST(PartsTransform, SaysOnWhichPartItFailed) {
  Sample sample = pair_of(3);
  const auto broken = [](const std::string& part) {
    return map("broken " + part, [part](Sample&, Rng&) {
      if (part == "right") throw std::runtime_error("not this one");
    });
  };
  EXPECT_THAT(test::message_of<DataError>([&] {
                apply(each_part({"left", "right"}, broken), sample);
              }),
              AllOf(HasSubstr("on sample 3"), HasSubstr("part 'right': not this one")));
  EXPECT_THAT(test::message_of<ConfigError>([&] {
                apply(each_part({"lef"}, [](const std::string& part) { return shift(part, 1); }), sample);
              }),
              AllOf(HasSubstr("part 'lef'"), HasSubstr("did you mean 'left'?")));
  EXPECT_THROW(each_part({"left"}, {}), ConfigError);
  EXPECT_THROW(each_part({"left"}, [](const std::string&) { return Transform{}; }), ConfigError);
}

TEST(PartsTransform, RunsOnManyThreads) {
  const Transform twice = each_part({}, [](const std::string& part) {
    return map(part, [part](Sample& sample, Rng&) { *sample[part].data<uint8_t>() = 77; });
  });
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int64_t k = 0; k < 500; ++k) {
        Sample sample = pair_of(k);
        apply(twice, sample);
        for (const Part& part : sample.parts) wrong += *part.data<uint8_t>() != 77;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

struct Separate : test::DigitFiles {};

TEST_F(Separate, GivesTheSamplesOfABatch) {
  const auto source = open(concat({a, b}));
  const Transforms transforms = {divide("images", 255), class_index("labels", 200)};
  const ReaderOptions options{.seed = 4, .shuffle = true};
  const HostBatch batch = make_batch(*source, transforms, options, {1, {3, 9}});
  const std::vector<Sample> samples = separate(batch);
  ASSERT_EQ(samples.size(), 9u);
  for (int64_t row = 0; row < 9; ++row) {
    Sample expected;
    source->read(shuffled(4, 1, 14, 3 + row), expected);
    apply(transforms, expected, 4, 1);
    const Sample& sample = samples[static_cast<size_t>(row)];
    EXPECT_EQ(sample.id, expected.id);
    EXPECT_EQ(sample.metadata, expected.metadata);
    ASSERT_EQ(sample.parts.size(), 2u);
    for (size_t p = 0; p < 2; ++p) {
      EXPECT_EQ(sample.parts[p].name, expected.parts[p].name);
      EXPECT_EQ(sample.parts[p].type, expected.parts[p].type);
      EXPECT_EQ(sample.parts[p].shape, expected.parts[p].shape);
      EXPECT_EQ(sample.parts[p].bytes, expected.parts[p].bytes);
    }
  }
  EXPECT_TRUE(separate(make_batch(*source, transforms, options, {1, {3, 0}})).empty());
}

TEST_F(Separate, AppliesTransformsToEach) {
  const auto source = open(a);
  const HostBatch batch = make_batch(*source, divide("images", 255), {}, {0, {2, 4}});
  const Transforms more = {map("noise", [](Sample& sample, Rng& rng) {
    sample["images"].data<float>()[0] = static_cast<float>(rng.uniform());
  })};
  const auto changed = apply_to_each(more, batch, 7, 3);
  ASSERT_EQ(changed.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    Sample expected = separate(batch)[i];
    apply(more, expected, 7, 3);
    EXPECT_EQ(changed[i].id, expected.id);
    EXPECT_EQ(changed[i].parts[0].bytes, expected.parts[0].bytes);
    EXPECT_NE(changed[i].parts[0].bytes, separate(batch)[i].parts[0].bytes);
  }
  EXPECT_THAT(test::message_of<ConfigError>([&] { apply_to_each({flip_vertical("gone", 1)}, batch); }),
              HasSubstr("sample 2"));
}

TEST_F(Separate, RefusesPartsThatAreNotOneRowEach) {
  HostBatch batch = make_batch(*open(Dataset(a_path, {"labels"})), {}, {}, {0, {0, 4}});
  batch.ids.pop_back();
  EXPECT_THAT(test::message_of<DataError>([&] { separate(batch); }),
              AllOf(HasSubstr("'labels' of a batch of 3 samples"), HasSubstr("(4)")));
  batch.parts[0].shape.clear();
  EXPECT_THROW(separate(batch), DataError);
  batch.parts.clear();
  batch.metadata.resize(2);
  EXPECT_THAT(test::message_of<DataError>([&] { separate(batch); }), HasSubstr("the metadata of 2"));
}

}  // namespace
}  // namespace lab
