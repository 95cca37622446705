#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <exception>
#include <filesystem>

#include "lab/comm/lane.h"
#include "lab/core/error.h"
#include "lab/train/checkpoint.h"
#include "lab/train/name_template.h"
#include "lab/train/on_device.h"
#include "lab/train/tensor_buffer.h"
#include "train/checkpoint_index.h"
#include "train/run_state.h"

namespace lab {
namespace {

// A snapshot's tensors, copied so that training can go on while they are written. The memory is kept from
// one snapshot to the next.
class Staged {
 public:
  void make_room(const Snapshot& like) {
    tensors_.resize(like.model.size() + like.rest.size());
    size_t at = 0;
    for (const auto* list : {&like.model, &like.rest})
      for (const auto& [name, tensor] : *list) {
        at::Tensor& room = tensors_[at++];
        if (!room.defined() || room.sizes() != tensor.sizes() || room.scalar_type() != tensor.scalar_type())
          room = host_memory_like(tensor);
      }
  }
  // The kernel hands out memory when it is first written to: that takes longer than to copy into it.
  void touch() {
    for (at::Tensor& room : tensors_) room.zero_();
  }
  void copy(const Snapshot& snapshot) {
    make_room(snapshot);
    views_.clear();
    size_t at = 0;
    for (const auto* list : {&snapshot.model, &snapshot.rest})
      for (const auto& [name, tensor] : *list) {
        at::Tensor& copy = tensors_[at++];
        copy.copy_(tensor.detach(), /*non_blocking=*/true);
        views_.push_back({name, dtype_of(copy.scalar_type()), copy.sizes().vec(), copy.const_data_ptr()});
      }
    for (const auto& [name, tensor] : snapshot.model)
      if (!tensor.is_cpu()) return await(tensor.device());  // all of them lie there
  }
  const std::vector<TensorView>& views() const { return views_; }

 private:
  std::vector<at::Tensor> tensors_;
  std::vector<TensorView> views_;
};

// Gives a file a second name in its folder, in place of what had that name. Where the file system has no
// such links, a copy.
void name_also(const std::string& folder, const std::string& file, const std::string& name) {
  const std::string from = folder + "/" + file, to = folder + "/" + name, temporary = to + ".partial";
  unlink(temporary.c_str());
  std::error_code problem;
  std::filesystem::create_hard_link(from, temporary, problem);
  if (problem) std::filesystem::copy_file(from, temporary, problem);
  if (!problem) std::filesystem::rename(temporary, to, problem);
  unlink(temporary.c_str());  // a rename onto another name of the same file leaves both
  if (!problem) return;
  throw IoError("cannot give the checkpoint ", from, " the name ", name, ": ", problem.message(),
                "; check the folder's rights and free space");
}

class CheckpointFolder final : public CheckpointSink {
 public:
  CheckpointFolder(CheckpointPlan plan, const SavedRun* resume, Log log)
      : plan_(std::move(plan)), names_(NameTemplate::parse(plan_.names)), log_(std::move(log)) {
    remove_unfinished();
    if (!resume) return;
    if (resume->state.best) ranked_.push_back(*resume->state.best);
    ranked_.insert(ranked_.end(), resume->state.next_best.begin(), resume->state.next_best.end());
    go_on_from(*resume);
  }

  ~CheckpointFolder() override {
    try {
      finish();
    } catch (const std::exception& e) {
      log_.error(e.what());
    }
  }
  CheckpointFolder(const CheckpointFolder&) = delete;
  CheckpointFolder& operator=(const CheckpointFolder&) = delete;

  void expect(const Snapshot& like) override {
    staged_.make_room(like);
    pending_ = lane_.submit([this] { staged_.touch(); });
  }

  void save(const Snapshot& snapshot) override {
    finish();
    ranked_before_ = ranked_;
    RunState state = snapshot.state;
    rank(state);
    state.best = best();
    state.next_best.assign(ranked_.begin() + (ranked_.empty() ? 0 : 1), ranked_.end());
    state.records = plan_.records();
    staged_.copy(snapshot);
    pending_ = lane_.submit([this, state = std::move(state)] { write(state); });
  }

  void finish() override {
    pending_.wait();
    pending_ = {};
    saved_ = !error_;
    if (saved_) return;
    ranked_ = ranked_before_;
    try {
      std::rethrow_exception(std::exchange(error_, nullptr));
    } catch (const std::exception& e) {
      if (plan_.stop_on_error) throw;
      log_.warn(e.what(), "; the run goes on, as trainer.init.on_checkpoint_error says");
    }
  }

  bool saved() const override { return saved_; }
  std::optional<Best> best() const override {
    return ranked_.empty() ? std::nullopt : std::optional(ranked_.front());
  }

 private:
  // What a process that was killed left behind.
  void remove_unfinished() const {
    std::error_code ignored;
    for (const auto& file : std::filesystem::directory_iterator(plan_.folder, ignored))
      if (const auto name = file.path().filename().string();
          name.ends_with(".partial") || name.find(".tmp-") != std::string::npos)
        std::filesystem::remove(file.path(), ignored);
  }

  // Newer checkpoints are of a course that is not taken: they are listed no more, and written over when the
  // run gets there again.
  void go_on_from(const SavedRun& resume) {
    const RunState& state = resume.state;
    const std::string name = checkpoint_name(state.epoch, state.step);
    entries_ = checkpoints_in(plan_.folder);
    std::erase_if(entries_, [&](const CheckpointEntry& entry) {
      return entry.step >= state.step || entry.file != checkpoint_name(entry.epoch, entry.step);
    });
    const std::string file = std::filesystem::path(resume.file.path()).filename();
    if (file != name) name_also(plan_.folder, file, name);
    entries_.insert(entries_.begin(), {name, state.epoch, state.step});
    forget_lost_best();
    write_checkpoint_index(plan_.folder, entries_, ranked_);
    name_also(plan_.folder, name, "last.safetensors");
    set_best_aside();
    if (const auto first = ranked_.empty() ? entries_.end() : entry_of(ranked_.front());
        first != entries_.end())
      name_also(plan_.folder, first->file, "best.safetensors");
  }

  std::vector<CheckpointEntry>::iterator entry_of(const Best& best) {
    return std::ranges::find(entries_, best.step, &CheckpointEntry::step);
  }

  bool is_of(const std::string& file, int64_t step) const try {
    return !file.empty() && read_checkpoint(plan_.folder + "/" + file).state.step == step;
  } catch (const Error&) {  // damaged, or not there
    return false;
  }

  // Whether no file has it any more. What has but one of the other names gets that of all checkpoints again,
  // so that a better one may take the other.
  bool is_lost(const Best& best) {
    if (entry_of(best) != entries_.end()) return false;
    for (const std::string& file : {std::string("best.safetensors"), best.file}) {
      if (!is_of(file, best.step)) continue;
      const std::string name = checkpoint_name(best.epoch, best.step);
      name_also(plan_.folder, file, name);
      const auto older = std::ranges::find_if(
          entries_, [&](const CheckpointEntry& entry) { return entry.step < best.step; });
      entries_.insert(older, {name, best.epoch, best.step});
      return false;
    }
    return true;
  }

  // Another course of the run may have removed some of its best. That there was a best stays on record.
  void forget_lost_best() {
    if (ranked_.empty() || plan_.top == 1) return;  // one alone is best.safetensors and nothing else
    is_lost(ranked_.front());
    ranked_.erase(
        std::remove_if(ranked_.begin() + 1, ranked_.end(), [&](const Best& best) { return is_lost(best); }),
        ranked_.end());
  }

  // best.safetensors of a course that was given up must not pass for the best of this one.
  void set_best_aside() const {
    const std::string path = plan_.folder + "/best.safetensors",
                      aside = plan_.folder + "/best.given-up.safetensors";
    std::error_code problem;
    if (!std::filesystem::exists(path, problem)) return;
    for (const auto& entry : entries_)  // spares reading it
      if (best() && entry.step == best()->step &&
          std::filesystem::equivalent(plan_.folder + "/" + entry.file, path, problem))
        return;
    if (best() && is_of("best.safetensors", best()->step)) return;
    std::filesystem::rename(path, aside, problem);
    log_.warn("best.safetensors was of a course of the run that is given up; it is now called ", aside);
  }

  // Finds the snapshot's place among the best.
  void rank(const RunState& state) {
    if (plan_.monitor.empty() || !state.epoch_finished) return;
    const auto value = value_of(state.values, plan_.monitor);
    if (!value || std::isnan(*value)) return;  // or not measured in this epoch
    std::erase_if(ranked_, [&](const Best& other) { return other.step == state.step; });  // saved once more
    const double sign = plan_.mode == Mode::min ? 1 : -1;
    const auto worse =
        std::ranges::find_if(ranked_, [&](const Best& other) { return sign * *value < sign * other.value; });
    const std::string file =
        names_ ? names_->name(state.epoch, state.step, state.values) + ".safetensors" : "";
    ranked_.insert(worse, Best{plan_.monitor, *value, state.epoch, state.step, file});
    while (plan_.top >= 0 && std::ssize(ranked_) > plan_.top) ranked_.pop_back();
  }

  // On the lane's thread, which alone touches entries_ once there is one.
  void write(const RunState& state) {
    try {
      plan_.sync_records();
      const std::string name = checkpoint_name(state.epoch, state.step);
      write_safetensors(plan_.folder + "/" + name, staged_.views(),
                        {{"format", "pt"}, {"lab", to_json(state)}});
      const auto own = std::ranges::find(ranked_, state.step, &Best::step);
      if (own != ranked_.end() && !own->file.empty()) name_also(plan_.folder, name, own->file);
      if (own == ranked_.begin() && own != ranked_.end()) name_also(plan_.folder, name, "best.safetensors");
      name_also(plan_.folder, name, "last.safetensors");
      list(name, state);
      plan_.saved(state);
    } catch (...) {
      error_ = std::current_exception();
    }
  }

  void list(const std::string& name, const RunState& state) {
    std::erase_if(entries_, [&](const CheckpointEntry& entry) { return entry.file == name; });
    entries_.insert(entries_.begin(), {name, state.epoch, state.step});
    std::vector<std::string> old;
    const int64_t newest = plan_.keep < 0 ? std::ssize(entries_) : std::max<int64_t>(plan_.keep, 1);
    for (int64_t i = std::ssize(entries_) - 1; i >= newest; --i) {
      const auto entry = entries_.begin() + i;
      const bool ranked = std::ranges::find(ranked_, entry->step, &Best::step) != ranked_.end();
      if (ranked && plan_.top != 1) continue;  // one alone has its own name, best.safetensors
      old.push_back(entry->file);
      entries_.erase(entry);
    }
    for (const Best& best : ranked_before_)
      if (!best.file.empty() && std::ranges::find(ranked_, best.file, &Best::file) == ranked_.end())
        old.push_back(best.file);
    write_checkpoint_index(plan_.folder, entries_, ranked_);
    for (const auto& file : old) unlink((plan_.folder + "/" + file).c_str());
  }

  CheckpointPlan plan_;
  std::optional<NameTemplate> names_;
  Log log_;
  std::vector<Best> ranked_, ranked_before_;  // the best first; with and without the snapshot being written
  Staged staged_;
  std::vector<CheckpointEntry> entries_;  // newest first
  bool saved_ = true;
  std::exception_ptr error_;  // set by the lane, read when it is idle
  Ticket pending_;
  Lane lane_;  // the last member: its thread ends before what it uses
};

}  // namespace

std::unique_ptr<CheckpointSink> checkpoint_folder(CheckpointPlan plan, const SavedRun* resume, Log log) {
  return std::make_unique<CheckpointFolder>(std::move(plan), resume, std::move(log));
}

}  // namespace lab
