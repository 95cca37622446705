#include "lab/train/name_template.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lab {
namespace {

std::string named(const std::string& text) {
  const auto names = NameTemplate::parse(text);
  return names
             ? names->name(7, 188, {{"loss/validate", 0.123456}, {"accuracy/validate", -1.5}, {"gone", NAN}})
             : "none";
}

TEST(NameTemplate, PutsInWhatWasMeasured) {
  EXPECT_EQ(named("digits-{epoch}-{step}"), "digits-7-188");
  EXPECT_EQ(named("{epoch:03d} {loss/validate:.3f}"), "007 0.123");
  EXPECT_EQ(named("{step:6d}|{loss/validate:9.2e}|{loss/validate:g}"), "   188| 1.23e-01|0.123456");
  EXPECT_EQ(named("{epoch}{accuracy/validate:06.1f}"), "7-001.5");
  EXPECT_EQ(named("{epoch} {loss/validate}"), "7 0.123456");
  EXPECT_EQ(named("{epoch} {gone:05.1f} {never}"), "7   nan nan");
}

TEST(NameTemplate, NamesItsTags) {
  EXPECT_EQ(NameTemplate::parse("{epoch}-{a/b:.2f}-{c}")->tags(), (std::vector<std::string>{"a/b", "c"}));
}

TEST(NameTemplate, WhatIsNoneIsRefused) {
  for (const char* text : {"", "digits", "{loss}", "{epoch", "epoch}", "{}", "{epoch}{:d}", "a/{epoch}",
                           "{epoch:x}", "{epoch:.2f}", "{epoch}{loss:d}", "{epoch}{loss:.f}",
                           "{epoch}{loss:.2}", "{epoch}{loss:123f}", "epoch={epoch}", ".{epoch}"})
    EXPECT_FALSE(NameTemplate::parse(text)) << text;
}

}  // namespace
}  // namespace lab
