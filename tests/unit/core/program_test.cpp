#include "lab/core/program.h"

#include <gtest/gtest.h>

#include <iostream>

#include "lab/core/error.h"

namespace lab {
namespace {

// The exit code, and what was said.
std::pair<int, std::string> outcome(const std::function<int()>& run) {
  testing::internal::CaptureStderr();
  const int code = run_program("lab_x", run);
  return {code, testing::internal::GetCapturedStderr()};
}

TEST(Program, EndsWithTheCodeOfWhatItRan) {
  using Outcome = std::pair<int, std::string>;
  EXPECT_EQ(outcome([] { return 0; }), Outcome(0, ""));
  EXPECT_EQ(outcome([] { return 75; }), Outcome(75, ""));
  EXPECT_EQ(outcome([]() -> int { throw DataError("a is ", 3); }), Outcome(65, "lab_x: a is 3\n"));
  EXPECT_EQ(outcome([]() -> int { throw std::out_of_range("at"); }),
            Outcome(70, "lab_x: this is a bug in lab_x: at\n"));
}

TEST(Program, OutputThatIsLostIsAnError) {
  const auto [code, said] = outcome([] {
    std::cout.setstate(std::ios::badbit);
    return 0;
  });
  std::cout.clear();
  EXPECT_EQ(code, 74);
  EXPECT_NE(said.find("standard output"), std::string::npos) << said;
}

}  // namespace
}  // namespace lab
