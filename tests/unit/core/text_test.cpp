#include "lab/core/text.h"

#include <gtest/gtest.h>

#include <cmath>

namespace {

TEST(Text, NearestNameFindsTyposOnly) {
  const std::vector<std::string> known = {"learning_rate", "weight_decay", "batch_size"};
  EXPECT_EQ(lab::nearest_name("learning_rat", known), "learning_rate");
  EXPECT_EQ(lab::nearest_name("leanring_rate", known), "learning_rate");
  EXPECT_EQ(lab::nearest_name("batchsize", known), "batch_size");
  EXPECT_EQ(lab::nearest_name("momentum", known), "");
  EXPECT_EQ(lab::nearest_name("", known), "");
  EXPECT_EQ(lab::nearest_name(std::string(100'000, 'x'), known), "");
}

TEST(Text, ShortestReadsBackAsTheSameDouble) {
  for (const double value : {0.1, 1.0 / 3, 1e-5, 1e300, -0.0, 123456789.0})
    EXPECT_EQ(std::stod(lab::shortest(value)), value);
  EXPECT_EQ(lab::shortest(0.1), "0.1");
  EXPECT_EQ(lab::shortest(NAN), "nan");
  EXPECT_EQ(lab::shortest(-INFINITY), "-inf");
}

TEST(Text, ShortListNamesFiveAndTheirNumber) {
  EXPECT_EQ(lab::short_list(std::vector<int64_t>{}), "");
  EXPECT_EQ(lab::short_list(std::vector<int64_t>{0, 2, 3, 4, 5}), "0, 2, 3, 4, 5");
  EXPECT_EQ(lab::short_list(std::vector<int64_t>{0, 2, 3, 4, 5, 8, 9}), "0, 2, 3, 4, 5 ... [7]");
}

TEST(Text, QuotedEscapes) { EXPECT_EQ(lab::quoted(std::string_view("a\"b\\\n\x01")), R"("a\"b\\\n\u0001")"); }

TEST(Text, ByteSizes) {
  EXPECT_EQ(lab::byte_size(0), "0 B");
  EXPECT_EQ(lab::byte_size(1536), "1.5 KiB");
}

}  // namespace
