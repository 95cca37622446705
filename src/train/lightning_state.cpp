#include "train/lightning_state.h"

#include <cstring>
#include <initializer_list>
#include <optional>

#include "lab/core/error.h"

namespace lab::detail {
namespace {

using Kind = TorchValue::Kind;

constexpr const char* weights_alone = "; take its weights alone, with checkpoint.weights_only = true";

const TorchValue* at(const TorchValue* value, std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) value = value ? value->find(key) : nullptr;
  return value;
}

const TorchValue::Items& list_of(const TorchValue* value) {
  static const TorchValue::Items nothing;
  return value && (value->kind == Kind::list || value->kind == Kind::tuple) ? value->items() : nothing;
}

std::optional<double> number(const TorchValue* value) {
  if (!value) return std::nullopt;
  if (value->kind == Kind::integer) return static_cast<double>(value->integer());
  if (value->kind == Kind::real) return value->real();
  if (value->kind != Kind::tensor || byte_count(DType::u8, value->tensor().shape) != 1) return std::nullopt;
  const TensorView& tensor = value->tensor();
  const auto read = [&]<class T>(T out) {
    std::memcpy(&out, tensor.data, sizeof out);
    return static_cast<double>(out);
  };
  if (tensor.type == DType::f32) return read(float{});
  if (tensor.type == DType::f64) return read(double{});
  if (tensor.type == DType::i64) return read(int64_t{});
  return std::nullopt;
}

int64_t whole(const TorchValue* value, int64_t otherwise) {
  const auto found = number(value);
  return found && *found >= 0 && *found < 9e15 ? static_cast<int64_t>(*found) : otherwise;
}

bool is_true(const TorchValue* value) { return value && value->kind == Kind::boolean && value->boolean(); }

std::string keys_of(const TorchValue& dict) {
  std::vector<std::string> keys;
  for (size_t i = 0; dict.kind == Kind::dict && i < dict.items().size() && keys.size() < 12; i += 2)
    if (dict.items()[i]->kind == Kind::text) keys.push_back(dict.items()[i]->text().substr(0, 60));
  return join(keys);
}

// The value under a number; nullptr: there is none.
const TorchValue* under(const TorchValue* dict, int64_t key) {
  for (size_t i = 0; dict && dict->kind == Kind::dict && i < dict->items().size(); i += 2)
    if (dict->items()[i]->kind == Kind::integer && dict->items()[i]->integer() == key)
      return dict->items()[i + 1];
  return nullptr;
}

// Where the run was: `epoch` is the one under way when a callback saved it, or how many there were when it
// was saved afterwards; the loop's own counters tell which.
void read_place(const TorchFile& file, LightningState& state) {
  const TorchValue& root = file.root();
  const int64_t epoch = whole(root.find("epoch"), -1);
  state.steps = whole(root.find("global_step"), -1);
  if (epoch < 0 || state.steps < 0)
    throw DataError(quoted(file.path()), " has no epoch and global_step to go on from", weights_alone);
  const TorchValue* loop = at(&root, {"loops", "fit_loop"});
  const TorchValue* last = at(loop, {"epoch_loop.batch_progress", "is_last_batch"});
  if (state.steps > 0 && last && !is_true(last))
    throw DataError(quoted(file.path()), " was saved within epoch ", epoch, " (at step ", state.steps,
                    "): which samples were left in it is not known; take one of the end of an epoch",
                    weights_alone);
  const int64_t begun = whole(at(loop, {"epoch_progress", "current", "started"}), epoch + 1);
  state.epochs = state.steps == 0 ? 0 : begun == epoch ? epoch : epoch + 1;
}

struct Group {
  const TorchValue* options;
  std::vector<const TorchValue*> states;  // of the parameters, in order; nullptr: none yet
};

Group only_group(const TorchFile& file, size_t parameters) {
  const auto& optimizers = list_of(file.root().find("optimizer_states"));
  if (optimizers.size() != 1)
    throw DataError(quoted(file.path()), " has the states of ", optimizers.size(),
                    " optimizers, one is wanted", weights_alone);
  const auto& groups = list_of(optimizers[0]->find("param_groups"));
  if (groups.size() != 1)
    throw DataError(quoted(file.path()), " has an optimizer with ", groups.size(),
                    " groups of parameters: which parameter is in which is not known", weights_alone);
  const auto& numbers = list_of(groups[0]->find("params"));
  if (numbers.size() != parameters)
    throw DataError(quoted(file.path()), " has an optimizer of ", numbers.size(),
                    " parameters, this model has ", parameters, " that are trained", weights_alone);
  Group group{groups[0], {}};
  for (const TorchValue* key : numbers)
    group.states.push_back(
        under(optimizers[0]->find("state"), key->kind == Kind::integer ? key->integer() : -1));
  return group;
}

// What the state of a parameter is called there and here.
using Parts = std::vector<std::pair<std::string, std::string>>;

Parts known_optimizer(const TorchFile& file, const TorchValue& options, LightningState& state) {
  const auto refuse = [&](const std::string& what) {
    throw DataError(quoted(file.path()), " has an optimizer ", what,
                    ", of which lab takes over Adam, AdamW and SGD", weights_alone);
  };
  if (is_true(options.find("maximize"))) refuse("that maximizes");
  if (options.find("nesterov") && options.find("dampening")) {
    state.optimizer = "SGD";
    return number(options.find("momentum")).value_or(0) == 0 ? Parts{}
                                                             : Parts{{"momentum_buffer", "momentum"}};
  }
  if (!options.find("betas") || !options.find("amsgrad")) refuse(text("with the options ", keys_of(options)));
  if (is_true(options.find("amsgrad"))) refuse("with amsgrad");
  state.optimizer = "AdamW";
  const TorchValue* decoupled = options.find("decoupled_weight_decay");
  if (decoupled && !is_true(decoupled) && number(options.find("weight_decay")).value_or(0) != 0)
    state.left_out.push_back("weight decay as Adam has it, where this run has AdamW");
  return {{"exp_avg", "exp_avg"}, {"exp_avg_sq", "exp_avg_sq"}};
}

void add_part(const TorchValue* saved, const std::string& part, const TensorView& parameter,
              const TorchFile& file, LightningState& state) {
  TensorView view = parameter;
  if (saved && saved->kind == Kind::tensor) {
    view = saved->tensor();
    if (view.shape != parameter.shape)
      throw DataError(quoted(file.path()), " has an optimizer whose ", part, " of ", parameter.name,
                      " has another shape than the parameter: were they registered in another order?",
                      weights_alone);
  } else {
    const auto bytes = static_cast<size_t>(byte_count(parameter.type, parameter.shape).value());
    state.zeros.push_back(std::make_shared<std::vector<std::byte>>(bytes));
    view.data = state.zeros.back()->data();
  }
  view.name = text("lab.optimizer.", part, ".", parameter.name);
  state.tensors.push_back(view);
}

void read_optimizer(const TorchFile& file, const std::vector<TensorView>& parameters, LightningState& state) {
  const Group group = only_group(file, parameters.size());
  const Parts parts = known_optimizer(file, *group.options, state);
  state.rate =
      number(group.options->find("initial_lr")).value_or(number(group.options->find("lr")).value_or(0));
  state.optimizer_steps = state.optimizer == "SGD" ? state.steps : 0;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const TorchValue* saved = group.states[i];
    const int64_t steps = whole(saved ? saved->find("step") : nullptr, 0);
    if (steps > 0 && state.optimizer_steps > 0 && steps != state.optimizer_steps)
      throw DataError(quoted(file.path()), " has an optimizer that took ", state.optimizer_steps,
                      " steps with some parameters and ", steps, " with ", parameters[i].name, weights_alone);
    if (steps > 0) state.optimizer_steps = steps;
    for (const auto& [there, here] : parts)
      add_part(saved ? saved->find(there) : nullptr, here, parameters[i], file, state);
  }
}

void read_rest(const TorchFile& file, LightningState& state) {
  for (const TorchValue* scheduler : list_of(file.root().find("lr_schedulers")))
    if (!scheduler->find("milestones"))
      state.left_out.push_back(text("a learning-rate scheduler (", keys_of(*scheduler),
                                    "): the config's schedule goes on instead"));
  const TorchValue* callbacks = file.root().find("callbacks");
  if (callbacks && callbacks->kind == Kind::dict && !callbacks->items().empty())
    state.left_out.push_back(text("the states of callbacks (", keys_of(*callbacks), "): they begin anew"));
}

}  // namespace

LightningState lightning_state(const TorchFile& file, const std::vector<TensorView>& parameters) {
  LightningState state;
  read_place(file, state);
  read_optimizer(file, parameters, state);
  read_rest(file, state);
  return state;
}

}  // namespace lab::detail
