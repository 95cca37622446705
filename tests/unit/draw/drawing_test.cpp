// What plotly is told, and what a picture has where.

#include "lab/draw/drawing.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "draw/cairo.h"
#include "draw/canvas.h"
#include "draw/colours.h"
#include "draw/png.h"
#include "lab/core/error.h"
#include "lab/draw/picture.h"
#include "unit/temporary_folder.h"

namespace lab {
namespace {

using nlohmann::json;

json read(const Drawing& drawing) { return json::parse(plotly(drawing)); }

Drawing matrix(std::vector<std::string> names, std::vector<double> values) {
  return {.title = "title", .x = {"prediction"}, .y = {"truth"}, .heat_map = HeatMap{names, names, values}};
}

TEST(Plotly, AHeatMapHasItsRowsFromAbove) {
  const json drawn = read(matrix({"a", "b"}, {3, 1, 0, 0.5}));
  const json& map = drawn.at("data").at(0);
  EXPECT_EQ(map.at("type"), "heatmap");
  EXPECT_EQ(map.at("z").dump(), "[[3,1],[0,0.5]]");
  EXPECT_EQ(map.at("x").dump(), R"(["a","b"])");
  EXPECT_EQ(map.at("zmax"), 3);
  EXPECT_EQ(map.at("colorscale").at(0).dump(), R"([0,"#ffffff"])");
  EXPECT_EQ(map.at("colorscale").back().at(0), 1);
  EXPECT_EQ(drawn.at("layout").at("yaxis").at("autorange"), "reversed");
  EXPECT_EQ(drawn.at("layout").at("xaxis").at("title"), "prediction");
  EXPECT_FALSE(drawn.at("layout").contains("title"));
}

TEST(Plotly, CurvesHaveAxesAndGaps) {
  const Drawing drawing{
      .x = {"steps", {{0, 1}}},
      .y = {.title = "loss", .range = {{0.01, 10}}, .logarithmic = true},
      .curves = {
          {"a", {0, 1}, {0.5, NAN}}, {"b", {0.5}, {1}, CurveStyle::marks}, {.style = CurveStyle::thin}}};
  const json drawn = read(drawing);
  EXPECT_EQ(drawn.at("data").at(0).at("y").dump(), "[0.5,null]");
  EXPECT_EQ(drawn.at("data").at(0).at("mode"), "lines");
  EXPECT_EQ(drawn.at("data").at(1).at("mode"), "lines+markers");
  EXPECT_EQ(drawn.at("data").at(2).at("line").at("width"), 1);
  EXPECT_EQ(drawn.at("layout").at("xaxis").at("range").dump(), "[0,1]");
  EXPECT_EQ(drawn.at("layout").at("yaxis").dump(), R"({"range":[-2,1],"title":"loss","type":"log"})");
}

TEST(Plotly, WhatIsGivenIsTaken) {
  const Drawing drawing{.plotly = R"({"data":[1]})"};
  EXPECT_EQ(plotly(drawing), drawing.plotly);
  EXPECT_TRUE(picture_of(drawing).empty());
}

TEST(Plotly, NamesThatAreNoTextDoNotBreakIt) {
  EXPECT_EQ(read(matrix({"b\xff"
                         "d"},
                        {1}))
                .at("data")
                .at(0)
                .at("x")
                .at(0),
            "b\xEF\xBF\xBD"
            "d");
}

TEST(HeatColours, ShowTheLeastThatIsThere) {
  using detail::heat_colour;
  EXPECT_EQ(heat_colour(0), detail::white);
  EXPECT_EQ(detail::hex(heat_colour(1)), "#0a2d64");
  EXPECT_EQ(heat_colour(0.5), (detail::Colour{80, 145, 205}));
  const detail::Colour one_of_thousands = heat_colour(1.0 / 5000);
  EXPECT_LT(one_of_thousands.red, 230);
  EXPECT_FALSE(detail::dark(one_of_thousands));
  EXPECT_TRUE(detail::dark(heat_colour(1)));
  EXPECT_EQ(detail::heat_range(std::vector<double>{}), (std::pair<double, double>(0, 1)));
  EXPECT_EQ(detail::heat_range(std::vector<double>{-1, 5, NAN}), (std::pair<double, double>(-1, 5)));
}

uint32_t big_endian(const std::string& bytes, size_t at) {
  uint32_t out = 0;
  for (size_t i = 0; i < 4; ++i) out = out << 8 | static_cast<unsigned char>(bytes.at(at + i));
  return out;
}

// The pixels of a file of ours, as 0xRRGGBB; checks what holds the chunks together.
struct Pixels {
  explicit Pixels(const std::string& png) {
    EXPECT_EQ(png.substr(0, 8), "\x89PNG\r\n\x1a\n");
    std::string rows;
    for (size_t at = 8; at < png.size();) {
      const size_t length = big_endian(png, at);
      const std::string checked = png.substr(at + 4, 4 + length);
      EXPECT_EQ(big_endian(png, at + 8 + length),
                crc32_z(0, reinterpret_cast<const Bytef*>(checked.data()), checked.size()));
      if (checked.starts_with("IHDR")) width = big_endian(png, at + 8), height = big_endian(png, at + 12);
      if (checked.starts_with("IDAT")) {
        rows.resize((1 + 3 * width) * height);
        uLongf size = rows.size();
        EXPECT_EQ(uncompress(reinterpret_cast<Bytef*>(rows.data()), &size,
                             reinterpret_cast<const Bytef*>(checked.data() + 4), length),
                  Z_OK);
        EXPECT_EQ(size, rows.size());
      }
      at += 12 + length;
    }
    bytes = rows;
  }
  uint32_t at(size_t x, size_t y) const {
    return big_endian('\0' + bytes.substr(y * (1 + 3 * width) + 1 + 3 * x, 3), 0);
  }
  size_t width = 0, height = 0;
  std::string bytes;
};

TEST(Png, HasThePixelsThatItWasGiven) {
  const std::vector<uint32_t> given = {0xff0000, 0x00ff00, 0x0000ff, 0x123456, 0xffffff, 0};
  const Pixels pixels(detail::png(given, 3, 2));
  ASSERT_EQ(pixels.width, 3U);
  ASSERT_EQ(pixels.height, 2U);
  for (size_t i = 0; i < given.size(); ++i) EXPECT_EQ(pixels.at(i % 3, i / 3), given[i]) << i;
}

uint32_t number(detail::Colour c) { return static_cast<uint32_t>(c.red << 16 | c.green << 8 | c.blue); }

// How many pixels have a colour, in which rows and columns.
struct Found {
  size_t count = 0, left = SIZE_MAX, right = 0, top = SIZE_MAX, bottom = 0;
};
Found find(const Pixels& pixels, uint32_t colour) {
  Found out;
  for (size_t y = 0; y < pixels.height; ++y)
    for (size_t x = 0; x < pixels.width; ++x) {
      if (pixels.at(x, y) != colour) continue;
      ++out.count;
      out.left = std::min(out.left, x), out.right = std::max(out.right, x);
      out.top = std::min(out.top, y), out.bottom = std::max(out.bottom, y);
    }
  return out;
}

TEST(Picture, CellsHaveTheColoursOfTheirNumbers) {
  const Picture picture = picture_of(matrix({"a", "b"}, {0, 4, 2, 0}));
  const Pixels pixels(picture.png);
  EXPECT_EQ(static_cast<int>(pixels.width), picture.width);
  EXPECT_EQ(static_cast<int>(pixels.height), picture.height);
  const Found most = find(pixels, number(detail::heat_colour(1))),
              half = find(pixels, number(detail::heat_colour(0.5)));
  EXPECT_GT(most.count, 5000U);  // of 90 x 90, but for the number in it
  EXPECT_GT(half.count, 5000U);
  EXPECT_LT(half.right, most.left + 2);  // half is at the lower left, most at the upper right
  EXPECT_LT(most.bottom, half.top + 2);
  EXPECT_LT(most.right, pixels.width);
  EXPECT_EQ(pixels.at(0, 0), 0xffffffU);
  EXPECT_EQ(pixels.at(pixels.width - 1, pixels.height - 1), 0xffffffU);
}

TEST(Picture, MapsOfAnySizeAreDrawn) {
  for (const size_t n : {1U, 2U, 30U, 100U, 1000U}) {
    SCOPED_TRACE(n);
    std::vector<double> values(n * n, 0);
    for (size_t i = 0; i < n; ++i) values[i * n + i] = 7;
    const Picture picture =
        picture_of(matrix(std::vector<std::string>(n, "a long name of a class, and more of it"), values));
    EXPECT_GT(picture.png.size(), 1000U);
    EXPECT_LT(std::max(picture.width, picture.height), 1300);
  }
}

TEST(Picture, ACurveGoesFromCornerToCorner) {
  const Drawing drawing{.x = {"x", {{0, 1}}}, .y = {"y", {{0, 1}}}, .curves = {{"", {0, 0, 1}, {0, 1, 1}}}};
  const Pixels pixels(picture_of(drawing).png);
  const Found line = find(pixels, number(detail::curve_colours[0]));
  EXPECT_NEAR(static_cast<double>(line.right - line.left), 560, 3);
  EXPECT_NEAR(static_cast<double>(line.bottom - line.top), 380, 3);
  EXPECT_GT(find(pixels, number(detail::light_grey)).count, 3000U);  // the grid
  EXPECT_GT(find(pixels, number(detail::ink)).count, 50U);           // numbers and titles
}

TEST(Picture, AThinCurveHasTheColourOfTheOneBehindIt) {
  const std::vector<double> x = {0, 1};
  const Drawing drawing{.x = {"x"},
                        .y = {"y"},
                        .curves = {{"a", x, {0, 0}, CurveStyle::thin}, {"b", x, {1, 1}}, {"c", x, {2, 2}}}};
  const Pixels pixels(picture_of(drawing).png);
  EXPECT_GT(find(pixels, number(detail::curve_colours[0])).count, 500U);
  EXPECT_GT(find(pixels, number(detail::curve_colours[1])).count, 500U);
  EXPECT_EQ(find(pixels, number(detail::curve_colours[2])).count, 0U);
}

TEST(Picture, OfAMistakeThereIsNone) {
  Drawing odd = matrix({"a", "b"}, {1, 2, 3});
  EXPECT_EQ(mistake_in(odd), "a heat map of 2 x 2 cells has 3 values");
  EXPECT_THROW(picture_of(odd), Bug);
  odd = matrix({}, {});
  EXPECT_EQ(mistake_in(odd), "a heat map of 0 x 0 cells has 0 values");
  odd = {.curves = {{"a", {1, 2}, {3}}}};
  EXPECT_EQ(mistake_in(odd), "a curve has 2 places and 1 values");
  EXPECT_EQ(mistake_in(matrix({"a"}, {1})), "");
}

TEST(Painter, SaysOnceThatItCannotAndGoesOn) {
  const test::TemporaryFolder folder;
  Log log;
  log.also_to(folder / "log.txt");
  Painter painter(log);
  EXPECT_TRUE(painter.paint({}).empty());
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(painter.paint(matrix({"a", "b"}, {1, 2, 3})).empty());
  EXPECT_FALSE(painter.paint(matrix({"a"}, {1})).empty());
  const std::string said = test::read_bytes(folder / "log.txt");
  const size_t first = said.find("no pictures are drawn: a heat map of 2 x 2 cells has 3 values");
  ASSERT_NE(first, std::string::npos) << said;
  EXPECT_EQ(said.find("no pictures", first + 1), std::string::npos) << said;
}

TEST(Picture, PointsThatAreNowhereAreLeftOut) {
  const double nan = NAN, infinity = INFINITY;
  for (const bool logarithmic : {false, true})
    for (const auto& y : std::vector<std::vector<double>>{
             {nan, nan}, {1, infinity}, {-1, 0}, {5, 5}, {}, {1e308, -1e308}, {1e-320, 1}}) {
      std::vector<double> x;
      for (size_t i = 0; i < y.size(); ++i) x.push_back(static_cast<double>(i));
      const Drawing drawing{
          .x = {"x"}, .y = {.title = "y", .logarithmic = logarithmic}, .curves = {{"a", x, y}}};
      EXPECT_GT(picture_of(drawing).width, 600);
    }
  const Drawing upside_down{.x = {"x", {{1, 0}}}, .y = {"y", {{3, 3}}}, .curves = {{"a", {0, 1}, {1, 2}}}};
  EXPECT_GT(picture_of(upside_down).width, 600);
}

// Of points that lie closer than pixels none that is seen gets lost.
TEST(Picture, ManyPointsLookAsTheyAre) {
  Curve curve;
  for (int i = 0; i < 100'000; ++i) {
    curve.x.push_back(i);
    curve.y.push_back(i == 50'001 ? 1 : i == 70'003 ? -1 : 0);
  }
  const Pixels pixels(picture_of({.x = {"x"}, .y = {"y", {{-1, 1}}}, .curves = {curve}}).png);
  const Found line = find(pixels, number(detail::curve_colours[0]));
  EXPECT_GT(line.bottom - line.top, 370U);
}

TEST(Picture, NamesThatAreNoTextAreDrawnAllTheSame) {
  EXPECT_GT(picture_of(matrix({"b\xff"
                               "d\n",
                               std::string(1, '\0')},
                              {1, 2, 3, 4}))
                .width,
            200);
  EXPECT_EQ(detail::shown("a\nb\xff"), "a b\xEF\xBF\xBD");
}

TEST(Picture, ALongTextIsCutBetweenLetters) {
  detail::Canvas sheet(1, 1);
  const std::string cut = sheet.cut("ääääääääääääääääääää", 13, 60);
  EXPECT_TRUE(cut.starts_with("ä") && cut.ends_with("…")) << cut;
  EXPECT_LE(detail::Canvas(1, 1).width_of(cut, 13), 60);
  EXPECT_NO_THROW(sheet.picture());  // no half letter was tried: after one nothing more is drawn
  EXPECT_EQ(sheet.cut("short", 13, 600), "short");
}

TEST(Cairo, AMachineWithoutItIsToldWhatToInstall) {
  for (const char* library : {"libcairo_that_is_nowhere.so.2", "libz.so.1"}) try {
      detail::load_cairo(library);
      ADD_FAILURE() << library;
    } catch (const Unavailable& e) {
      EXPECT_NE(std::string(e.what()).find("install Debian's libcairo2"), std::string::npos) << e.what();
    }
}

}  // namespace
}  // namespace lab
