#include "lab/comm/agreement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn.h>

#include <cstring>
#include <functional>

#include "group.h"
#include "lab/core/error.h"
#include "lab/train/agreed_parts.h"
#include "lab/train/reducer.h"
#include "unit/temporary_folder.h"

namespace lab {
namespace {

using testing::HasSubstr;

// The message of a disagreement, which all ranks must have in the same words; "" where they agree.
std::string disagreement(const std::function<void()>& agreement) {
  std::string said;
  try {
    agreement();
  } catch (const AgreedError& e) {
    EXPECT_EQ(e.code(), ExitCode::disagreement);
    said = e.what();
  }
  EXPECT_EQ(said, broadcast_bytes(test_group(), said)) << "not what rank 0 says";
  return said;
}

// Who is named when `culprit` alone differs: of two ranks the first is believed.
std::string named(int culprit) {
  const int ranks = test_group().size();
  if (ranks == 2) return text("rank 1 has another ");
  return text("rank ", culprit, " has another ");
}

std::vector<int> culprits() {
  const int ranks = test_group().size();
  return ranks == 1 ? std::vector<int>{} : std::vector<int>{0, ranks - 1};
}

TEST(Agreement, AnErrorOnOneRankIsEveryonesError) {
  auto& comm = test_group();
  const int culprit = comm.size() - 1;
  try {
    agree(comm, [&] {
      if (comm.rank() == culprit) throw DataError("label 12 is too large");
    });
    FAIL() << "no rank threw";
  } catch (const AgreedError& e) {
    EXPECT_EQ(e.code(), ExitCode::bad_data);
    EXPECT_THAT(e.what(), HasSubstr("label 12 is too large"));
    EXPECT_THAT(e.what(), HasSubstr(culprit > 0 ? text("rank ", culprit) : ""));
  }
  agree(comm, [] {});  // and the group goes on
}

TEST(Agreement, BytesReachEveryRank) {
  auto& comm = test_group();
  const std::string mine = comm.rank() == 0 ? std::string("a\0b", 3) + std::string(100'000, 'x') : "";
  EXPECT_EQ(broadcast_bytes(comm, mine), std::string("a\0b", 3) + std::string(100'000, 'x'));
}

TEST(RequireEqual, AgreesOnWhatIsTheSame) {
  EXPECT_EQ(disagreement([] { require_equal(test_group(), {"config", "a = 1\nb = 2"}); }), "");
  EXPECT_EQ(disagreement([] { require_equal(test_group(), {"nothing", ""}); }), "");
}

TEST(RequireEqual, NamesRankPartAndLine) {
  for (const int culprit : culprits()) {
    const bool me = test_group().rank() == culprit;
    const std::string value = me ? "a = 1\nb = 3\nc = 4" : "a = 1\nb = 2\nc = 3";
    const std::vector<AgreedPart> parts = {{"seed", "7"}, {"config", value}, {"version", me ? "1" : "2"}};
    const std::string said = disagreement([&] { require_equal(test_group(), parts); });
    const bool first_believed = test_group().size() == 2 && culprit == 0;
    EXPECT_THAT(said, HasSubstr(named(culprit) + "config"));
    EXPECT_THAT(said, HasSubstr(first_believed ? "b = 2, not b = 3" : "b = 3, not b = 2"));
    EXPECT_THAT(said, HasSubstr(named(culprit) + "version"));
    EXPECT_THAT(said, testing::Not(HasSubstr("seed")));
  }
}

TEST(RequireEqual, NamesAllThatDiffer) {
  if (test_group().size() < 4) return;
  const bool odd = test_group().rank() % 3 != 0;
  const std::string said = disagreement([&] { require_equal(test_group(), {"config", odd ? "x" : "y"}); });
  EXPECT_THAT(said, HasSubstr("ranks 1, 2 have another config than the others: x, not y"));
}

TEST(RequireEqual, ALineTooManyIsADifference) {
  for (const int culprit : culprits()) {
    const bool me = test_group().rank() == culprit;
    EXPECT_THAT(disagreement([&] {
                  require_equal(test_group(), {"config", me ? "a\nb" : "a"});
                }),
                testing::ContainsRegex("(b, not nothing|nothing, not b)"));
  }
}

TEST(RequireEqual, AnotherNumberOfPartsIsADifference) {
  for (const int culprit : culprits()) {
    std::vector<AgreedPart> parts = {{"seed", "7"}};
    if (test_group().rank() == culprit) parts.push_back({"more", "1"});
    EXPECT_NE(disagreement([&] { require_equal(test_group(), parts); }), "");
  }
}

// A run that is the same on all ranks until one changes a piece of it.
struct Trial {
  TrainPlan plan;
  TrainerOptions options;
  std::string bytes = std::string(60 * 28, 'x');  // of the data file
  std::vector<std::string> fields = {"x", "labels"};
  int64_t samples = 60;
  bool validates = true;
};

torch::nn::Sequential network(int64_t width, double dropout) {
  return torch::nn::Sequential(torch::nn::Linear(6, width), torch::nn::BatchNorm1d(width), torch::nn::ReLU(),
                               torch::nn::Dropout(dropout), torch::nn::Linear(width, 3));
}

Trial a_run() {
  Trial run;
  run.plan = {.model = {network(8, 0.3), "x"},
              .loss = cross_entropy(),
              .optimizer = AdamW{.lr = 0.05},
              .schedule = multi_step({2, 4}, 0.5),
              .train = {.transforms = {scale("x", 2)}, .shuffle = true},
              .batch_size = 16,
              .metrics = {accuracy()},
              .monitor = "loss/validate",
              .callbacks = {early_stopping({})}};
  run.options.max_epochs = 6;
  run.options.max_steps = -1;
  return run;
}

std::unique_ptr<Source> open(const Trial& run, const std::string& path) {
  test::write_bytes(path, run.bytes);
  FileLayout layout{path, 60 * 28, {}};
  layout.fields.push_back({.name = "x", .type = DType::f32, .shape = {60, 6}});
  layout.fields.push_back({.name = "labels", .type = DType::i32, .shape = {60}, .offset = 60 * 24});
  return std::make_unique<Source>(Dataset(path, run.fields).take(run.samples), layout);
}

std::string disagreement_about(const Trial& run) {
  const test::TemporaryFolder folder;  // of this rank: the path is not compared
  const auto train = open(run, folder / "train.h5"), validate = open(a_run(), folder / "validate.h5");
  return disagreement([&] {
    const auto parts =
        agreed_parts(run.plan, run.options, train.get(), run.validates ? validate.get() : nullptr);
    require_equal(test_group(), parts);
  });
}

struct Mutant {
  const char* name;
  const char* part;  // that is named
  std::function<void(Trial&)> change;
};

std::vector<Mutant> mutants() {
  using R = Trial&;
  return {
      {"seed", "seed", [](R r) { r.options.seed = 1; }},
      {"batch size", "batch size", [](R r) { r.plan.batch_size = 17; }},
      {"precision", "numerics", [](R r) { r.options.precision = "64-true"; }},
      {"canonical", "numerics", [](R r) { r.options.numerics = "canonical"; }},
      {"epochs", "set of trainer options: max_epochs", [](R r) { r.options.max_epochs = 7; }},
      {"steps", "set of trainer options: max_steps", [](R r) { r.options.max_steps = 24; }},
      {"clipping", "set of trainer options", [](R r) { r.options.gradient_clip_val = 1; }},
      {"clipping by value", "set of trainer options",
       [](R r) { r.options.gradient_clip_algorithm = "value"; }},
      {"compression", "set of trainer options: gradient_compression",
       [](R r) { r.options.gradient_compression = "bf16"; }},
      {"strategy", "set of trainer options: strategy", [](R r) { r.options.strategy = "zero1"; }},
      {"validation", "set of trainer options", [](R r) { r.options.check_val_every_n_epoch = 2; }},
      {"checkpoints", "set of trainer options", [](R r) { r.options.checkpoint_every_n_steps = 3; }},
      {"buckets", "set of trainer options", [](R r) { r.options.bucket_cap_mb = 1; }},
      {"shape", "model",
       [](R r) {
         r.plan.model = {network(9, 0.3), "x"};
       }},
      {"dropout", "model",
       [](R r) {
         r.plan.model = {network(8, 0.4), "x"};
       }},
      {"type", "model: 0.weight f", [](R r) { r.plan.model.module().to(torch::kFloat64); }},
      {"frozen", "model", [](R r) { r.plan.model.module().parameters()[0].set_requires_grad(false); }},
      {"optimizer", "optimizer", [](R r) { r.plan.optimizer = SGD{.lr = 0.05}; }},
      {"rate", "optimizer: rate 0.0", [](R r) { r.plan.optimizer = AdamW{.lr = 0.06}; }},
      {"schedule", "schedule: factor",
       [](R r) {
         r.plan.schedule = multi_step({2, 5}, 0.5);
       }},
      {"data", "training set: a file of", [](R r) { r.bytes[77] = 'y'; }},
      {"file", "training set: a file of", [](R r) { r.bytes += "y"; }},
      {"field", "training set", [](R r) { r.fields = {"x"}; }},
      {"samples", "training set", [](R r) { r.samples = 59; }},
      {"order", "training set", [](R r) { r.plan.train.shuffle = false; }},
      {"transform", "training set", [](R r) { r.plan.train.transforms = {}; }},
      {"no validation", "validation set", [](R r) { r.validates = false; }},
      {"metric", "set of metrics and callbacks", [](R r) { r.plan.metrics = {}; }},
      {"callback", "set of metrics and callbacks", [](R r) { r.plan.callbacks = {}; }},
      {"monitor", "set of metrics and callbacks", [](R r) { r.plan.monitor_mode = Mode::max; }},
  };
}

TEST(AgreedParts, AreTheSameForTheSameRun) { EXPECT_EQ(disagreement_about(a_run()), ""); }

TEST(AgreedParts, EachMutantIsNamed) {
  for (const int culprit : culprits())
    for (const Mutant& mutant : mutants()) {
      SCOPED_TRACE(mutant.name);
      Trial run = a_run();
      if (test_group().rank() == culprit) mutant.change(run);
      const std::string part = text(mutant.part).substr(0, text(mutant.part).find(':'));
      const std::string line = text(mutant.part).substr(part.size());
      EXPECT_THAT(disagreement_about(run),
                  testing::AllOf(HasSubstr(named(culprit) + part + " than "), HasSubstr(line)));
    }
  EXPECT_EQ(disagreement_about(a_run()), "") << "the group goes on";
}

TEST(AgreedParts, AnotherPlanOfBucketsIsRefusedByTheReducer) {
  for (const int culprit : culprits()) {
    auto net = network(64, 0);
    FlatParameters parameters(*net);
    const double cap = test_group().rank() == culprit ? 1e-4 : 25;
    EXPECT_THAT(disagreement([&] {
                  const GradientReducer reducer(test_group(), parameters, {{}, cap});
                }),
                HasSubstr(named(culprit) + "bucket plan than "));
  }
}

// A file that is larger than the pieces that are looked at.
TEST(AgreedParts, TheChecksumOfALargeFileSeesItsEnds) {
  const test::TemporaryFolder folder;
  const std::string path = folder / "large.h5";
  std::string bytes(size_t{3} << 20, 'x');
  const auto identity = [&] {
    test::write_bytes(path, bytes);
    FileLayout layout{path, bytes.size(), {}};
    layout.fields.push_back({.name = "x", .type = DType::u8, .shape = {std::ssize(bytes)}});
    return Source(Dataset(path, {"x"}), layout).identity();
  };
  const std::string before = identity();
  EXPECT_EQ(identity(), before);
  for (const size_t place : {size_t{0}, bytes.size() - 1, bytes.size() - 4096}) {
    bytes[place] = 'y';
    EXPECT_NE(identity(), before) << place;
    bytes[place] = 'x';
  }
}

}  // namespace
}  // namespace lab
