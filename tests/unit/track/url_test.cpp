#include "lab/track/url.h"

#include <gtest/gtest.h>

namespace lab {
namespace {

TEST(Url, BelowAHost) {
  EXPECT_TRUE(is_below("http://files:8081/a", "http://files:8081"));
  EXPECT_TRUE(is_below("http://files:8081", "http://files:8081"));
  for (const char* url : {"http://files:80811/a", "http://files:8081@evil/a", "http://files:8081.evil/a",
                          "https://files:8081/a", "http://files/a", "file:///a", ""})
    EXPECT_FALSE(is_below(url, "http://files:8081")) << url;
  EXPECT_FALSE(is_below("http://anything", ""));
}

TEST(Url, PercentEncoding) {
  EXPECT_EQ(percent_encoded("aZ09_.-~", ""), "aZ09_.-~");
  EXPECT_EQ(percent_encoded("Self test (#1)", "() "), "Self test (%231)");
  EXPECT_EQ(percent_encoded("Self test (%231)", "/"), "Self%20test%20%28%25231%29");
  EXPECT_EQ(percent_encoded("ü\n/", "/"), "%C3%BC%0A/");
}

}  // namespace
}  // namespace lab
