#include "lab/comm/agreement.h"

#include <gtest/gtest.h>

#include "group.h"
#include "lab/core/error.h"

namespace {

TEST(Agreement, AnErrorOnOneRankIsEveryonesError) {
  auto& comm = test_group();
  const int culprit = comm.size() - 1;
  try {
    lab::agree(comm, [&] {
      if (comm.rank() == culprit) throw lab::DataError("label 12 is too large");
    });
    FAIL() << "no rank threw";
  } catch (const lab::AgreedError& e) {
    EXPECT_EQ(e.code(), lab::ExitCode::bad_data);
    EXPECT_NE(std::string(e.what()).find("label 12 is too large"), std::string::npos);
    const std::string who = culprit > 0 ? lab::text("rank ", culprit) : "";
    EXPECT_NE(std::string(e.what()).find(who), std::string::npos);
  }
  lab::agree(comm, [] {});  // and the group goes on
}

TEST(Agreement, BytesReachEveryRank) {
  auto& comm = test_group();
  const std::string mine = comm.rank() == 0 ? std::string("a\0b", 3) + std::string(100'000, 'x') : "";
  EXPECT_EQ(lab::broadcast_bytes(comm, mine), std::string("a\0b", 3) + std::string(100'000, 'x'));
}

TEST(Agreement, ADifferenceIsNamed) {
  auto& comm = test_group();
  lab::require_equal(comm, "config", 7);
  if (comm.size() == 1) return;  // nobody to differ from
  try {
    lab::require_equal(comm, "config", comm.rank() == 1 ? 8 : 7);
    FAIL() << "nobody noticed";
  } catch (const lab::AgreedError& e) {
    EXPECT_EQ(e.code(), lab::ExitCode::disagreement);
    EXPECT_NE(std::string(e.what()).find("rank 1 has another config"), std::string::npos);
  }
}

}  // namespace
