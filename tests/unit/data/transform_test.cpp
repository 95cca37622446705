#include "lab/data/transform.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "test_files.h"

namespace lab {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;

template <class T>
Part part(const std::string& name, DType type, std::vector<int64_t> shape, const std::vector<T>& values) {
  Part out{name, type, std::move(shape), std::vector<std::byte>(values.size() * sizeof(T))};
  std::memcpy(out.bytes.data(), values.data(), out.bytes.size());
  return out;
}

template <class T>
std::vector<T> values_of(const Part& part) {
  return {part.data<T>(), part.data<T>() + part.elements()};
}

// Part "x" after one transform.
Part apply(const Transform& transform, Part x, DType precision = DType::f32, uint64_t key = 1) {
  Sample sample{.id = 17, .precision = precision, .parts = {}};
  sample.parts.push_back(std::move(x));
  Rng rng(key);
  transform.apply(sample, rng);
  EXPECT_EQ(sample.parts[0].bytes.size(),
            static_cast<size_t>(sample.parts[0].elements() * size_of(sample.parts[0].type)));
  return sample.parts[0];
}

// One row per image row: 1 2 3 / 4 5 6.
Part image(std::vector<int64_t> shape = {2, 3}) {
  std::vector<uint8_t> values(static_cast<size_t>(Part{"", DType::u8, shape, {}}.elements()));
  std::iota(values.begin(), values.end(), uint8_t{1});
  return part<uint8_t>("x", DType::u8, std::move(shape), values);
}

template <class Exception>
std::string refusal(const Transform& transform, const Part& x) {
  return test::message_of<Exception>([&] { apply(transform, x); });
}

TEST(Sample, NamesThePartsThereAre) {
  Sample sample{.id = 0, .parts = {image()}};
  EXPECT_EQ(&sample["x"], &sample.parts[0]);
  sample.parts.push_back({"labels", DType::u8, {}, {}});
  EXPECT_THAT(
      test::message_of<ConfigError>([&] { sample["label"]; }),
      AllOf(HasSubstr("'label'"), HasSubstr("did you mean 'labels'?"), HasSubstr("it has x, labels")));
}

TEST(Divide, RoundsEachByteCorrectly) {
  std::vector<uint8_t> bytes(256);
  std::iota(bytes.begin(), bytes.end(), uint8_t{0});
  const Part x = part<uint8_t>("x", DType::u8, {256}, bytes);
  const Part f32 = apply(divide("x", 255), x), f64 = apply(divide("x", 255), x, DType::f64);
  EXPECT_EQ(f32.type, DType::f32);
  EXPECT_EQ(f64.type, DType::f64);
  for (size_t i = 0; i < 256; ++i) {
    EXPECT_EQ(f32.data<float>()[i], static_cast<float>(i) / 255.0f);
    EXPECT_EQ(f64.data<double>()[i], static_cast<double>(i) / 255.0);
  }
}

TEST(Scale, MultipliesAndKeepsTheShape) {
  const Part x = apply(scale("x", 0.5), image());
  EXPECT_EQ(x.type, DType::f32);
  EXPECT_THAT(x.shape, ElementsAre(2, 3));
  EXPECT_THAT(values_of<float>(x), ElementsAre(0.5f, 1, 1.5f, 2, 2.5f, 3));
  EXPECT_EQ(scale("images", 0.1).name, "scale(images, 0.1)");
}

TEST(Scale, TakesEveryType) {
  const auto halves = [](const Part& x, DType precision) {
    const Part y = apply(scale("x", 0.5), x, precision);
    EXPECT_EQ(y.type, precision);
    std::vector<double> out;
    for (int64_t i = 0; i < y.elements(); ++i)
      out.push_back(precision == DType::f64 ? y.data<double>()[i] : static_cast<double>(y.data<float>()[i]));
    return out;
  };
  for (const DType precision : {DType::f32, DType::f64}) {
    EXPECT_THAT(halves(part<uint8_t>("x", DType::boolean, {2}, {0, 1}), precision), ElementsAre(0, 0.5));
    EXPECT_THAT(halves(part<int8_t>("x", DType::i8, {2}, {-128, 127}), precision), ElementsAre(-64, 63.5));
    EXPECT_THAT(halves(part<uint16_t>("x", DType::u16, {2}, {0, 65535}), precision), ElementsAre(0, 32767.5));
    EXPECT_THAT(halves(part<int16_t>("x", DType::i16, {1}, {-32768}), precision), ElementsAre(-16384));
    EXPECT_THAT(halves(part<uint32_t>("x", DType::u32, {1}, {4294967294u}), precision),
                ElementsAre(static_cast<double>(precision == DType::f32 ? 2147483647.0f : 2147483647.0)));
    EXPECT_THAT(halves(part<int32_t>("x", DType::i32, {1}, {-6}), precision), ElementsAre(-3));
    EXPECT_THAT(halves(part<uint64_t>("x", DType::u64, {1}, {uint64_t{1} << 63}), precision),
                ElementsAre(0x1p62));
    EXPECT_THAT(halves(part<int64_t>("x", DType::i64, {1}, {-7}), precision), ElementsAre(-3.5));
    EXPECT_THAT(halves(part<float>("x", DType::f32, {1}, {0.25f}), precision), ElementsAre(0.125));
    EXPECT_THAT(halves(part<double>("x", DType::f64, {1}, {0.25}), precision), ElementsAre(0.125));
    // 1, -2, the largest, the smallest normal and subnormal numbers of half precision; 1 and -3.5 of
    // bfloat16.
    EXPECT_THAT(
        halves(part<uint16_t>("x", DType::f16, {5}, {0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001}), precision),
        ElementsAre(0.5, -1, 32752, 0x1p-15, 0x1p-25));
    EXPECT_THAT(halves(part<uint16_t>("x", DType::bf16, {2}, {0x3f80, 0xc060}), precision),
                ElementsAre(0.5, -1.75));
    const auto special = halves(part<uint16_t>("x", DType::f16, {3}, {0x7c00, 0xfc00, 0x7e00}), precision);
    EXPECT_EQ(special[0], HUGE_VAL);
    EXPECT_EQ(special[1], -HUGE_VAL);
    EXPECT_TRUE(std::isnan(special[2]));
  }
}

TEST(AddChannel, PutsOneInFront) {
  const Part x = apply(add_channel("x"), image());
  EXPECT_THAT(x.shape, ElementsAre(1, 2, 3));
  EXPECT_EQ(x.bytes, image().bytes);
  EXPECT_THAT(refusal<DataError>(add_channel("x"), x), AllOf(HasSubstr("(1, 2, 3)"), HasSubstr("sample 17")));
}

TEST(Flip, TurnsEveryPlane) {
  EXPECT_THAT(values_of<uint8_t>(apply(flip_vertical("x", 1), image())), ElementsAre(4, 5, 6, 1, 2, 3));
  EXPECT_THAT(values_of<uint8_t>(apply(flip_vertical("x", 1), image({2, 3, 1}))),
              ElementsAre(3, 2, 1, 6, 5, 4));
  EXPECT_THAT(values_of<uint8_t>(apply(flip_horizontal("x", 1), image())), ElementsAre(3, 2, 1, 6, 5, 4));
  const Part wide = part<int32_t>("x", DType::i32, {2, 1, 3}, {-1, 70000, 3, 4, 5, 6});
  EXPECT_THAT(values_of<int32_t>(apply(flip_horizontal("x", 1), wide)), ElementsAre(3, 70000, -1, 6, 5, 4));
  EXPECT_THAT(values_of<int32_t>(apply(flip_vertical("x", 1), wide)), ElementsAre(-1, 70000, 3, 4, 5, 6));
  EXPECT_EQ(apply(flip_vertical("x", 0), image()).bytes, image().bytes);
  EXPECT_EQ(apply(flip_horizontal("x", 0), image()).bytes, image().bytes);
}

TEST(Flip, HappensAsOftenAsAsked) {
  int64_t vertical = 0, horizontal = 0;
  for (uint64_t key = 0; key < 1000; ++key) {
    vertical +=
        apply(flip_vertical("x", 0.4), image(), DType::f32, random_key(key, Purpose::transform)).bytes !=
        image().bytes;
    horizontal +=
        apply(flip_horizontal("x", 0.1), image(), DType::f32, random_key(key, Purpose::transform)).bytes !=
        image().bytes;
  }
  EXPECT_NEAR(static_cast<double>(vertical), 400, 5 * std::sqrt(240));
  EXPECT_NEAR(static_cast<double>(horizontal), 100, 5 * std::sqrt(90));
}

TEST(Flip, RefusesWhatIsNoImageOrNoProbability) {
  const Part label = part<uint8_t>("x", DType::u8, {}, {3});
  EXPECT_THAT(refusal<DataError>(flip_vertical("x", 0), label), HasSubstr("(..., H, W)"));
  for (const double probability : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THROW(flip_vertical("x", probability), ConfigError);
    EXPECT_THROW(flip_horizontal("x", probability), ConfigError);
  }
}

// A picture moved by (down, right), pixel by pixel.
std::vector<uint16_t> moved(const std::vector<uint16_t>& from, int64_t planes, int64_t height, int64_t width,
                            int64_t down, int64_t right) {
  std::vector<uint16_t> to(from.size(), 0);
  for (int64_t p = 0; p < planes; ++p)
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x)
        if (y - down >= 0 && y - down < height && x - right >= 0 && x - right < width)
          to[static_cast<size_t>((p * height + y) * width + x)] =
              from[static_cast<size_t>((p * height + y - down) * width + x - right)];
  return to;
}

TEST(Shift, MovesByEachAmountAsOften) {
  for (const auto& [height, width, most] :
       {std::tuple<int64_t, int64_t, int64_t>{5, 4, 2}, {2, 3, 3}, {1, 1, 1}}) {
    std::vector<uint16_t> from(static_cast<size_t>(2 * height * width));
    std::iota(from.begin(), from.end(), uint16_t{1000});
    const Part x = part<uint16_t>("x", DType::u16, {2, height, width}, from);
    const int64_t places = (2 * most + 1) * (2 * most + 1), each = 100;
    std::map<std::vector<uint16_t>, int64_t> seen, expected;
    for (int64_t down = -most; down <= most; ++down)
      for (int64_t right = -most; right <= most; ++right)
        expected[moved(from, 2, height, width, down, right)] += each;
    for (int64_t key = 0; key < places * each; ++key)
      ++seen[values_of<uint16_t>(apply(shift("x", most), x, DType::f32,
                                       random_key(static_cast<uint64_t>(key), Purpose::transform)))];
    EXPECT_EQ(seen.size(), expected.size());
    for (const auto& [picture, count] : seen) {
      ASSERT_TRUE(expected.contains(picture)) << "neither moved nor cut off cleanly";
      const auto mean = static_cast<double>(expected[picture]);
      EXPECT_NEAR(static_cast<double>(count), mean, 5 * std::sqrt(mean));
    }
  }
}

TEST(Shift, StaysWhenAskedTo) {
  EXPECT_EQ(apply(shift("x", 0), image()).bytes, image().bytes);
  EXPECT_THROW(shift("x", -1), ConfigError);
  EXPECT_NO_THROW(apply(shift("x", std::numeric_limits<int64_t>::max()), image()));
}

TEST(OneHot, MarksTheClass) {
  const Part label = part<uint8_t>("x", DType::u8, {}, {2});
  const Part f32 = apply(one_hot("x", 4), label);
  EXPECT_EQ(f32.type, DType::f32);
  EXPECT_THAT(f32.shape, ElementsAre(4));
  EXPECT_THAT(values_of<float>(f32), ElementsAre(0, 0, 1, 0));
  EXPECT_THAT(values_of<double>(apply(one_hot("x", 3), label, DType::f64)), ElementsAre(0, 0, 1));
}

TEST(ClassIndex, IsOneInteger) {
  for (const auto& label : {part<uint8_t>("x", DType::u8, {}, {9}), part<int32_t>("x", DType::i32, {1}, {9}),
                            part<uint64_t>("x", DType::u64, {}, {9})}) {
    const Part index = apply(class_index("x", 10), label);
    EXPECT_EQ(index.type, DType::i64);
    EXPECT_TRUE(index.shape.empty());
    EXPECT_EQ(*index.data<int64_t>(), 9);
  }
  EXPECT_EQ(*apply(class_index("x", 2), part<uint8_t>("x", DType::boolean, {}, {1})).data<int64_t>(), 1);
}

TEST(Labels, OutOfRangeAreNamed) {
  const std::vector<std::pair<Part, const char*>> cases = {
      {part<uint8_t>("x", DType::u8, {}, {10}), "label 10,"},
      {part<int8_t>("x", DType::i8, {}, {-1}), "label -1,"},
      {part<uint64_t>("x", DType::u64, {}, {std::numeric_limits<uint64_t>::max()}),
       "label 18446744073709551615,"},
      {part<int64_t>("x", DType::i64, {}, {std::numeric_limits<int64_t>::min()}),
       "label -9223372036854775808,"},
  };
  for (const auto& [label, words] : cases)
    for (const Transform& transform : {one_hot("x", 10), class_index("x", 10)})
      EXPECT_THAT(refusal<DataError>(transform, label),
                  AllOf(HasSubstr(words), HasSubstr("'x' of sample 17"), HasSubstr("[0, 9]")));
}

TEST(Labels, MustBeOneIntegerEach) {
  EXPECT_THAT(refusal<DataError>(one_hot("x", 10), part<float>("x", DType::f32, {}, {1})),
              AllOf(HasSubstr("f32"), HasSubstr("one integer is wanted")));
  EXPECT_THAT(refusal<DataError>(class_index("x", 10), image()), HasSubstr("(2, 3)"));
  EXPECT_THROW(one_hot("x", 0), ConfigError);
  EXPECT_THROW(class_index("x", -3), ConfigError);
}

TEST(Arithmetic, RefusesFactorsThatAreNoNumbers) {
  EXPECT_THROW(scale("x", HUGE_VAL), ConfigError);
  EXPECT_THROW(divide("x", 0), ConfigError);
  EXPECT_THROW(divide("x", std::numeric_limits<double>::quiet_NaN()), ConfigError);
}

TEST(Map, IsAnyFunction) {
  const Transform negate = map("negate", [](Sample& sample, Rng&) {
    for (std::byte& b : sample["x"].bytes) b = ~b;
  });
  EXPECT_EQ(negate.name, "negate");
  EXPECT_THAT(values_of<uint8_t>(apply(negate, image())), ElementsAre(254, 253, 252, 251, 250, 249));
}

}  // namespace
}  // namespace lab
