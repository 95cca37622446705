#pragma once
// Pictures of the validation, one per epoch: drawn from sums over all of its samples.

#include <ATen/core/Tensor.h>

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "lab/draw/drawing.h"
#include "lab/train/metric.h"

namespace lab {

// `count` sees one chunk of at least one sample, without gradients, and returns `numbers` numbers; those of
// all chunks and ranks are added in double (whole numbers add up to the same for any number of ranks), and
// `draw` says what is to be seen of the sums. Both run on every rank. Of each epoch it is the file
// figures/<name>/validate-epoch-NNNN.png of the run folder, TensorBoard's image <name>/validate, and
// ClearML's plot "<name> (validate)"; names of a plan's figures differ.
struct Figure {
  std::string name;
  int64_t numbers = 0;
  std::function<at::Tensor(const Parts& output, const Batch& batch)> count;
  std::function<Drawing(std::span<const double> sums)> draw;
};

// How many samples of each class (rows) were taken for which (columns: the largest logit). target: class
// indices (n) or one-hot (n, classes). Throws ConfigError for an output of another number of classes.
Figure confusion_matrix(std::vector<std::string> classes, std::string target = "labels");

// Curves over all thresholds, of several classes one for each against all others, with the area under it in
// the legend. Drawn from counts of probabilities in `curve_bins` equal bins between 0 and 1: as torchmetrics'
// curves of thresholds at multiples of 1/1000. So what lies closer together is not told apart, and the area
// may differ from that of the metrics auroc and average_precision, which are exact. A class that is absent
// has a flat one. Of the options `logits`, `target` and `class_names` are used. Names: "roc" and
// "precision_recall".
inline constexpr int64_t curve_bins = 1000;
Figure roc_curve(Binary binary);
Figure roc_curve(Multiclass classes);
Figure precision_recall_curve(Binary binary);
Figure precision_recall_curve(Multiclass classes);

}  // namespace lab
