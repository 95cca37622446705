// A dataset cut into parts by shares, at random, with groups of samples kept together where asked for.
#include <cmath>
#include <map>

#include "data/elements.h"
#include "data/opened_samples.h"
#include "data/sample_check.h"
#include "lab/core/error.h"
#include "lab/data/order.h"

namespace lab::detail {

struct SplitPlan {
  Node child;
  std::vector<double> shares;
  uint64_t seed = 0;
  std::string group;  // empty: each sample by itself
};

namespace {

// Epochs of runs have other numbers: the order of a split is none of theirs.
constexpr uint64_t no_epoch = UINT64_MAX;
constexpr double rounding = 1e-9;

// The part that place `at` of `all` falls into; -1: none.
int8_t part_at(const std::vector<double>& shares, double at, int64_t all) {
  double end = 0;
  for (size_t part = 0; part < shares.size(); ++part) {
    end += shares[part];
    if (at < std::round(std::min(end + rounding, 1.0) * static_cast<double>(all)))
      return static_cast<int8_t>(part);
  }
  return -1;
}

MetadataValue whole_or_number(const Part& part) {
  const double number = part.number();
  return visit_type(part.type, [&]<class Element>(Element) -> MetadataValue {
    if constexpr (std::is_integral_v<Element>) return static_cast<int64_t>(*part.data<Element>());
    return number;
  });
}

// What a group is known by: whole numbers are the same whatever their type.
MetadataValue group_of(const Sample& sample, const std::string& name) {
  MetadataValue value = sample.metadata.has(name) ? sample.metadata[name] : whole_or_number(sample[name]);
  const auto* number = std::get_if<double>(&value);
  if (number == nullptr) return value;
  if (std::isnan(*number)) throw DataError("it is not a number, so that its group is unknown; correct it");
  constexpr double exact = 0x1p53;
  if (std::abs(*number) < exact && std::trunc(*number) == *number) return static_cast<int64_t>(*number);
  return value;
}

// Samples of each group, in the order in which the groups first come.
std::vector<std::vector<int64_t>> groups_of(const OpenedSamples& from, const std::string& field) {
  const std::vector<std::string> needs = {field};
  check_needs(from, needs, "a split");
  std::map<MetadataValue, size_t> numbers;
  std::vector<std::vector<int64_t>> groups;
  Sample sample;
  for (int64_t i = 0; i < from.size(); ++i) {
    from.read(i, sample, {.names = &needs});
    const auto place = [&] { return text("a split by '", field, "' on ", from.place(i), ": "); };
    MetadataValue group = placed(place, [&] { return group_of(sample, field); });
    const auto [entry, is_new] = numbers.try_emplace(std::move(group), groups.size());
    if (is_new) groups.emplace_back();
    groups[entry->second].push_back(i);
  }
  return groups;
}

// Groups are laid end to end in an order of chance; each belongs where its middle lies.
std::vector<int8_t> assign_groups(const SplitPlan& plan, const OpenedSamples& from) {
  const auto groups = groups_of(from, plan.group);
  std::vector<int8_t> parts(static_cast<size_t>(from.size()), -1);
  int64_t before = 0;
  for (int64_t p = 0; p < std::ssize(groups); ++p) {
    const auto& group = groups[static_cast<size_t>(shuffled(plan.seed, no_epoch, std::ssize(groups), p))];
    const double middle = static_cast<double>(before) + static_cast<double>(std::ssize(group) - 1) / 2;
    for (const int64_t i : group) parts[static_cast<size_t>(i)] = part_at(plan.shares, middle, from.size());
    before += std::ssize(group);
  }
  return parts;
}

std::vector<int8_t> assign(const SplitPlan& plan, const OpenedSamples& from) {
  if (!plan.group.empty()) return assign_groups(plan, from);
  std::vector<int8_t> parts(static_cast<size_t>(from.size()));
  for (int64_t p = 0; p < from.size(); ++p)
    parts[static_cast<size_t>(shuffled(plan.seed, no_epoch, from.size(), p))] =
        part_at(plan.shares, static_cast<double>(p), from.size());
  return parts;
}

struct SplitNode : NodeOfOne {
  std::shared_ptr<const SplitPlan> plan;
  int8_t part;
  std::string suffix;
  SplitNode(std::shared_ptr<const SplitPlan> plan_, size_t part_, const std::string& suffix_)
      : NodeOfOne(plan_->child, suffix_, -1),
        plan(std::move(plan_)),
        part(static_cast<int8_t>(part_)),
        suffix(suffix_) {}
  Opened open(Opening& opening) const override {
    const Opened from = open_once(*child, opening);
    Assignment& parts = opening.assignments[plan.get()];
    if (!parts) parts = std::make_shared<const std::vector<int8_t>>(assign(*plan, *from));
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < from->size(); ++i)
      if ((*parts)[static_cast<size_t>(i)] == part) rows.push_back(i);
    return selected(from, std::move(rows), suffix,
                    text("; the share ", shortest(plan->shares[static_cast<size_t>(part)]),
                         plan->group.empty() ? "" : text(" in whole groups of one '", plan->group, "'"),
                         " is too small for them, give it more"));
  }
};

void check_shares(const std::string& name, const std::vector<double>& shares) {
  constexpr size_t most = 100;
  if (shares.empty() || shares.size() > most)
    throw ConfigError("cannot split ", name, " into ", shares.size(), " parts; give 1 to ", most, " shares");
  double sum = 0;
  for (const double share : shares) {
    if (!(share > 0 && share <= 1))
      throw ConfigError("cannot split ", name, ": the share ", shortest(share), " is not in (0, 1]");
    sum += share;
  }
  if (sum > 1 + rounding)
    throw ConfigError("cannot split ", name, ": the shares are ", shortest(sum),
                      " in all; give shares of 1 or less in all");
}

}  // namespace
}  // namespace lab::detail

namespace lab {
namespace {

std::vector<Dataset> cut_up(const detail::Node& node, std::vector<double> shares, uint64_t seed,
                            std::string group) {
  if (!node) throw ConfigError("there is nothing to split in an empty dataset; name a file by hdf5(...)");
  detail::check_shares(node->name, shares);
  const auto plan = std::make_shared<const detail::SplitPlan>(
      detail::SplitPlan{node, std::move(shares), seed, std::move(group)});
  std::vector<Dataset> parts;
  for (size_t part = 0; part < plan->shares.size(); ++part)
    parts.emplace_back(std::make_shared<detail::SplitNode>(
        plan, part, text(" (part ", part + 1, " of ", plan->shares.size(), ")")));
  return parts;
}

}  // namespace

std::vector<Dataset> Dataset::split(std::vector<double> shares, uint64_t seed) const {
  return cut_up(node_, std::move(shares), seed, "");
}

std::vector<Dataset> Dataset::split_by(const std::string& field, std::vector<double> shares,
                                       uint64_t seed) const {
  if (field.empty()) throw ConfigError("cannot split ", path(), " by a field without a name; name one");
  return cut_up(node_, std::move(shares), seed, field);
}

}  // namespace lab
