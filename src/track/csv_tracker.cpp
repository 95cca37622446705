#include <charconv>
#include <fstream>
#include <iterator>
#include <string_view>
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

constexpr std::string_view header = "epoch,step,tag,value,time\n";

// Where the first `rows` rows behind the header end, and how many there are of them.
struct Kept {
  int64_t bytes = 0, rows = 0;
};
Kept kept_of(const std::string& path, int64_t rows) {
  std::ifstream in(path, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(in), {}};
  if (rows == 0 || !content.starts_with(header)) return {};
  Kept kept{static_cast<int64_t>(header.size()), 0};
  bool in_quotes = false;
  for (size_t i = header.size(); i < content.size() && kept.rows < rows; ++i) {
    if (content[i] == '"') in_quotes = !in_quotes;
    if (content[i] == '\n' && !in_quotes) kept = {static_cast<int64_t>(i) + 1, kept.rows + 1};
  }
  return kept;
}

// One row, and where the next one begins.
struct Row {
  std::vector<std::string> fields = {""};
  size_t end = 0;
  bool ended = false;
};
Row row_at(const std::string& content, size_t begin) {
  Row row;
  bool in_quotes = false;
  for (size_t i = begin; i < content.size(); ++i) {
    const char c = content[i];
    if (c == '"') {
      if (!in_quotes && i > begin && content[i - 1] == '"') row.fields.back() += c;  // the second of two
      in_quotes = !in_quotes;
    } else if (in_quotes || (c != ',' && c != '\n')) {
      row.fields.back() += c;
    } else if (c == ',') {
      row.fields.emplace_back();
    } else {
      row.end = i + 1;
      row.ended = true;
      return row;
    }
  }
  return row;
}

template <class Number>
bool read(const std::string& text, Number& number) {
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  return problem == std::errc() && end == text.data() + text.size();
}

std::optional<Scalar> point_of(const std::vector<std::string>& fields) {
  Scalar point;
  if (fields.size() != 5 || !read(fields[0], point.epoch) || !read(fields[1], point.step) ||
      !read(fields[3], point.value))
    return std::nullopt;
  point.tag = fields[2];
  return point;
}

class CsvTracker final : public Tracker {
 public:
  CsvTracker(const std::string& path, Log log, Kept kept)
      : file_(path, std::move(log), kept.bytes), rows_(kept.rows) {
    if (file_.empty()) file_.append(header);
  }

  void scalars(const std::vector<Scalar>& points, double wall_time) override {
    const std::string time = shortest(wall_time);
    std::string rows;
    for (const auto& [tag, step, epoch, value] : points)
      rows += lab::text(epoch, ',', step, ',', csv_field(tag), ',', shortest(value), ',', time, '\n');
    file_.append(rows);
    rows_ += std::ssize(points);
  }

  void text(const std::string&, const std::string&, double) override {}
  void flush() override { file_.flush(); }
  void sync() override { file_.sync(); }
  std::optional<int64_t> records() const override { return rows_; }

 private:
  detail::RecordFile file_;
  int64_t rows_;
};

}  // namespace

std::unique_ptr<Tracker> csv_tracker(const std::string& path, Log log, int64_t keep) {
  const Kept kept = kept_of(path, keep);
  if (kept.rows < keep) log.warn(path, " has lost ", keep - kept.rows, " of its first ", keep, " rows");
  return std::make_unique<CsvTracker>(path, std::move(log), kept);
}

std::vector<Scalar> read_csv(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(in), {}};
  std::vector<Scalar> points;
  if (!content.starts_with(header)) return points;
  for (size_t at = header.size(); at < content.size();) {
    const auto row = row_at(content, at);
    if (!row.ended) break;
    at = row.end;
    if (const auto point = point_of(row.fields)) points.push_back(*point);
  }
  return points;
}

}  // namespace lab
