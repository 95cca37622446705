#pragma once
// An experiment: a name, a config struct with described fields, and functions from config to plan.

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lab/config/fields.h"
#include "lab/train/plan.h"

namespace lab {

// What the words behind the config on lab_infer's command line were.
using Arguments = std::span<const std::string>;

// An experiment together with the config it was given. Plans may be asked for once each; making one opens
// nothing.
struct ConfiguredExperiment {
  std::function<TrainPlan()> train;
  std::function<InferPlan(Arguments)> infer;
};

struct Experiment {
  std::string name;
  std::function<std::vector<FieldDescription>()> fields;
  // Reads the table [config]; what is wrong with it goes to `mistakes`.
  std::function<ConfiguredExperiment(const Table& root, Resolved& resolved, Mistakes& mistakes)> configure;
};

// experiment("mnist", train, infer) with TrainPlan train(const Config&) and InferPlan infer(const Config&,
// Arguments).
template <class Config>
Experiment experiment(std::string name, TrainPlan (*train)(const Config&),
                      InferPlan (*infer)(const Config&, Arguments)) {
  return {std::move(name), [] { return fields_of<Config>(); },
          [train, infer](const Table& root, Resolved& resolved, Mistakes& mistakes) {
            const auto config =
                std::make_shared<Config>(read_fields<Config>(root, "config", resolved, mistakes));
            return ConfiguredExperiment{[=] { return with_loss_module(train(*config)); },
                                        [=](Arguments arguments) { return infer(*config, arguments); }};
          }};
}

}  // namespace lab
