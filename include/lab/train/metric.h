#pragma once
// Metrics over all samples of an epoch: exact, and bit-equal for any number of ranks. Values are those of
// torchmetrics, also for classes that are absent; without any sample they are NaN.

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lab/train/loss.h"

namespace lab {

enum class MetricStage { train, validate, test };
const char* name_of(MetricStage stage);

// How the numbers of all batches become those of an epoch.
enum class Collect {
  sums,    // added in double, in the order of leaves or chunks
  counts,  // whole numbers, whose sums are the same in any order: for as many as you like
  // Kept, one row for each sample, in the order of the data set. Not in training. Every rank holds all
  // rows when the value is computed: 8 bytes for each number, 2^27 numbers (1 GiB) at most.
  samples,
};
inline constexpr int64_t most_kept_numbers = int64_t{1} << 27;

// `count` sees one micro-batch or chunk, without gradients. What it returns are `numbers` numbers in one
// tensor after the other; to keep samples, tensors (n) or (n, k) that side by side are `numbers` wide, with
// at most a row for each sample. They stay on the device of the output: with GPUs, asking for a value there
// (item()) would make a training step wait. `values` makes the values of the collected numbers, on every
// rank: one alone is logged as "NAME/STAGE", several, one for each of `keys`, as "NAME (STAGE)/KEY".
struct Metric {
  std::string name = {};
  int64_t numbers = 2;
  std::function<std::vector<at::Tensor>(const Parts& output, const Batch& batch)> count = {};
  std::function<std::vector<double>(std::span<const double> numbers)> values = {};
  Collect collect = Collect::sums;
  std::vector<std::string> keys = {};
  std::optional<MetricStage> only = {};  // unset: in training, validation and test
  bool each_step = false;                // see per_step
  // Its value is the share of samples of which something is true: lab_infer tells of how many, too.
  bool is_share = false;
};

// The sum of all sums over the sum of all weights.
Metric weighted_mean(std::string name, std::function<WeightedSum(const Parts&, const Batch&)> sum);
// The mean of each of these losses, without its factor: "loss (STAGE)/NAME".
Metric loss_terms(const std::vector<LossTerm>& terms);
// Any function of a batch as a mean weighted by its number of samples (torch-lab's PooledMean).
Metric pooled_mean(std::string name, std::function<at::Tensor(const Parts& output, const Batch& batch)> mean);

// Share of samples whose largest logit is the target's class; target: class indices (n) or one-hot (n,
// classes).
Metric accuracy(std::string target = "labels");

// How the values of classes become one, as torchmetrics' `average`. macro: their mean without classes that
// were neither there nor predicted (with top_k > 1: that were not there); weighted: by how often each was
// there; micro: the value of all decisions together; none: one tag for each class.
enum class Average { macro, micro, weighted, none };

// One of several classes: output (n, classes), target as in accuracy().
struct Multiclass {
  int64_t classes = 0;  // at least 2
  Average average = Average::macro;
  int64_t top_k = 1;   // accuracy, precision, recall, f1: right when it is among the k largest
  bool logits = true;  // auroc, average_precision, curves: made probabilities by softmax; false: they are
  std::string target = "labels";
  std::vector<std::string> class_names = {};  // for tags and legends; empty: 0, 1, ...
};

// Yes or no: output (n) or (n, 1), target 0 or 1 likewise.
struct Binary {
  double threshold = 0.5;  // accuracy, precision, recall, f1: yes is a probability above it
  bool logits = true;      // made probabilities by a sigmoid; false: they are
  std::string target = "labels";
};

Metric accuracy(Multiclass classes);
Metric accuracy(Binary binary);
Metric precision(Multiclass classes);
Metric precision(Binary binary);
Metric recall(Multiclass classes);
Metric recall(Binary binary);
Metric f1(Multiclass classes);
Metric f1(Binary binary);
// How often each class was taken for each: keys "A as B" (truth, prediction), or tn, fp, fn, tp.
Metric confusion_counts(Multiclass classes);
Metric confusion_counts(Binary binary);

// The area under the ROC curve, and under the precision-recall curve as a step function; of several classes
// each against all others, no micro average. From all scores (no bins), with ties. A class that is absent
// counts as 0 in auroc's mean and is left out of average_precision's. NaN where a score is. Collect::samples.
Metric auroc(Multiclass classes);
Metric auroc(Binary binary);
Metric average_precision(Multiclass classes);
Metric average_precision(Binary binary);

// Of all elements, target of the output's shape; in double.
Metric mean_squared_error(std::string target = "labels");
Metric mean_absolute_error(std::string target = "labels");
// Coefficient of determination, 1 - (sum of squared errors) / (that of the mean as a prediction); the mean of
// those of `outputs` columns. Shape (n) or (n, outputs). NaN for fewer than two samples. Digits are lost
// where the target's mean is above a million times its spread.
Metric r2_score(int64_t outputs = 1, std::string target = "labels");

// A metric of something else than the output and the batch: `preprocess` makes of both what it shall see.
// Batch::ids says how many samples are left; without any nothing is counted. (torch-lab's MetricWrapper.)
using Preprocess = std::function<std::pair<Parts, Batch>(const Parts& output, const Batch& batch)>;
Metric on(Metric metric, Preprocess preprocess);
// The same under another name: tags of a plan's metrics must differ.
Metric named(Metric metric, std::string name);
Metric only_in(Metric metric, MetricStage stage);
// In training also with each step that is recorded (log_every_n_steps), as "NAME/train_step": of the epoch's
// samples so far. Ranks wait for each other then.
Metric per_step(Metric metric);

}  // namespace lab
