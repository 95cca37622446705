#include <utility>

#include "lab/track/tracker.h"
#include "track/record_file.h"

namespace lab {
namespace {

// RFC 4180: a field with a separator, a quote or a line end is quoted, quotes in it are doubled.
std::string csv_field(const std::string& value) {
  if (value.find_first_of(",\"\r\n") == std::string::npos) return value;
  std::string out = "\"";
  for (const char c : value) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + '"';
}

class CsvTracker final : public Tracker {
 public:
  CsvTracker(const std::string& path, Log log) : file_(path, std::move(log)) {
    if (file_.empty()) file_.append("epoch,step,tag,value,time\n");
  }

  void scalars(const std::vector<Scalar>& points, double wall_time) override {
    const std::string time = shortest(wall_time);
    std::string rows;
    for (const auto& [tag, step, epoch, value] : points)
      rows += lab::text(epoch, ',', step, ',', csv_field(tag), ',', shortest(value), ',', time, '\n');
    file_.append(rows);
  }

  void text(const std::string&, const std::string&, double) override {}
  void flush() override { file_.flush(); }

 private:
  detail::RecordFile file_;
};

}  // namespace

std::unique_ptr<Tracker> csv_tracker(const std::string& path, Log log) {
  return std::make_unique<CsvTracker>(path, std::move(log));
}

}  // namespace lab
