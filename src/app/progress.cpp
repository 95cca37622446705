#include "lab/app/progress.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "lab/core/formatted.h"
#include "lab/train/step_plan.h"

namespace lab {
namespace {

constexpr size_t bar_columns = 12, line_columns = 79;  // an 80th would wrap on some terminals
constexpr size_t time_columns = 25;                    // of the log, before each line
constexpr double seconds_between_bars = 0.1, seconds_between_lines = 10;

std::string short_number(double value) { return formatted("%.4g", value); }

// 12345.6 as "12,346"
std::string grouped(double value) {
  std::string digits = formatted("%.0f", value);
  for (auto at = std::ssize(digits) - 3; at > (value < 0 ? 1 : 0); at -= 3)
    digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

// 75 seconds as "1:15", an hour more as "1:01:15".
std::string duration(double seconds) {
  const auto all = static_cast<int64_t>(std::clamp(seconds, 0.0, 3.6e8));
  const auto hours = static_cast<long>(all / 3600), minutes = static_cast<long>(all / 60 % 60);
  const auto rest = static_cast<long>(all % 60);
  return hours > 0 ? formatted("%ld:%02ld:%02ld", hours, minutes, rest)
                   : formatted("%ld:%02ld", minutes, rest);
}

std::string of(int64_t max) { return max < 0 ? "" : text('/', max); }

// The name in so many columns at most; long ones lose their middle.
std::string fitted(const std::string& name, size_t most) {
  if (name.size() <= most) return name;
  const size_t half = (most - 3) / 2;
  return text(name.substr(0, half), "...", name.substr(name.size() - half));
}

}  // namespace

std::string shown(double value) { return formatted("%.6g", value); }

std::string validation_table(const Values& values, const std::string& title) {
  constexpr size_t value_columns = 14, most = 80 - value_columns;
  size_t columns = title.size();
  for (const auto& [tag, value] : values) columns = std::max(columns, std::min(tag.size(), most));
  const std::string line(columns + value_columns, '-');
  const auto row = [&](const std::string& left, const std::string& right) {
    return left + std::string(columns - left.size() + value_columns - right.size(), ' ') + right + '\n';
  };
  std::string out = row(title, "value") + line + '\n';
  for (const auto& [tag, value] : values) out += row(fitted(tag, most), shown(value));
  return out + line + '\n';
}

ProgressBar::ProgressBar(int64_t max_epochs, Clock clock)
    : max_epochs_(max_epochs), clock_(std::move(clock)) {}

std::string ProgressBar::time_left(int64_t epoch, int64_t batch, int64_t batches, double now) {
  if (epoch != epoch_) {
    epoch_ = epoch;
    first_batch_ = batch;
    first_time_ = now;
  }
  if (batch <= first_batch_) return "-:--";
  const double seconds_per_batch = (now - first_time_) / static_cast<double>(batch - first_batch_);
  return duration(seconds_per_batch * static_cast<double>(batches - batch - 1));
}

std::optional<std::string> ProgressBar::step(int64_t epoch, int64_t batch, int64_t batches, double loss,
                                             double rate) {
  const double now = clock_();
  const std::string left = time_left(epoch, batch, batches, now);
  if (now - shown_at_ < seconds_between_bars) return std::nullopt;
  shown_at_ = now;
  const int64_t done = batch + 1;
  const double part = static_cast<double>(done) / static_cast<double>(std::max<int64_t>(batches, 1));
  const auto full = static_cast<size_t>(static_cast<double>(bar_columns) * std::clamp(part, 0.0, 1.0));
  return text("epoch ", epoch + 1, of(max_epochs_), " [", std::string(full, '='),
              std::string(bar_columns - full, ' '), "] ", done, '/', batches, ", loss ", short_number(loss),
              ", rate ", short_number(rate), ", ", left, " left")
      .substr(0, line_columns);
}

Progress::Progress(Log log, bool bar, int64_t max_epochs, Clock clock)
    : log_(std::move(log)),
      shows_bar_(bar && log_.on_terminal()),
      max_epochs_(max_epochs),
      bar_(max_epochs, std::move(clock)) {}

void Progress::fit_started(int64_t batches) { log_.info("Starting training with ", batches, " batches"); }

void Progress::validation_started(int64_t batches) {
  log_.info("Starting validation with ", batches, " batches");
}

void Progress::step(int64_t epoch, int64_t batch, int64_t batches, double loss, double rate) {
  if (!shows_bar_) return;
  if (const auto line = bar_.step(epoch, batch, batches, loss, rate)) log_.status(*line);
}

void Progress::epoch_finished(int64_t epoch, const Values& values, double samples_per_second) {
  finished();
  const std::string speed =
      samples_per_second > 0 ? text(" (", grouped(samples_per_second), " samples/s)") : "";
  log_.info(formatted("Finished epoch %04lld", static_cast<long long>(epoch + 1)), of(max_epochs_), speed);
  std::string line;
  for (size_t i = 0; i < values.size(); ++i) {
    const auto& [tag, value] = values[i];
    const std::string words = text("  ", tag, ' ', short_number(value), i + 1 < values.size() ? "," : "");
    if (!line.empty() && line.size() + words.size() > line_columns - time_columns)
      log_.info(std::exchange(line, ""));
    line += words;
  }
  if (!line.empty()) log_.info(line);
}

void Progress::finished() { log_.status(""); }

namespace {

class PredictionProgress final : public Callback {
 public:
  PredictionProgress(Log log, int ranks) : log_(std::move(log)), ranks_(ranks) {}
  std::string name() const override { return "prediction_progress"; }
  void prediction_started(int64_t samples) override { chunks_ = chunks_of(samples, 0, ranks_).count; }
  void prediction_chunk_finished(int64_t chunk) override {
    const auto now = std::chrono::steady_clock::now();
    const double wait = log_.on_terminal() ? seconds_between_bars : seconds_between_lines;
    if (std::chrono::duration<double>(now - said_at_).count() < wait) return;
    said_at_ = now;
    const std::string line = text("predicted ", (chunk + 1) * 100 / std::max<int64_t>(chunks_, 1), " %");
    log_.on_terminal() ? log_.status(line) : log_.info(line);
  }
  void prediction_finished(const std::vector<TableColumn>&) override { log_.status(""); }

 private:
  Log log_;
  int ranks_;
  int64_t chunks_ = 0;  // of this rank
  std::chrono::steady_clock::time_point said_at_ = std::chrono::steady_clock::now();
};

}  // namespace

std::shared_ptr<Callback> prediction_progress(Log log, int ranks) {
  return std::make_shared<PredictionProgress>(std::move(log), ranks);
}

}  // namespace lab
