#include "lab/core/utf8.h"

#include <gtest/gtest.h>

namespace lab {
namespace {

TEST(Utf8Prefix, EndsBehindAWholeLetter) {
  EXPECT_EQ(utf8_prefix("abc", 3), "abc");
  EXPECT_EQ(utf8_prefix("abc", 2), "ab");
  EXPECT_EQ(utf8_prefix("a\u00e9b", 1), "a");
  EXPECT_EQ(utf8_prefix("a\u00e9b", 2), "a");
  EXPECT_EQ(utf8_prefix("a\u00e9b", 3), "a\u00e9");
  EXPECT_EQ(utf8_prefix("\U0001f600", 3), "");
  EXPECT_EQ(utf8_prefix("", 0), "");
}

}  // namespace
}  // namespace lab
