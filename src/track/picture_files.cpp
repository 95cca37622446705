#include "track/picture_files.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>

#include "lab/core/error.h"
#include "lab/core/utf8.h"
#include "lab/track/tracker.h"
#include "lab/track/url.h"
#include "track/new_file.h"

namespace lab {
namespace detail {
namespace {

// As in addresses (%2F for a slash), but only what leads elsewhere or what shells and other systems stumble
// over.
std::string encoded(const std::string& name) {
  static const std::string safe = [] {
    std::string signs = " !#$&'()+,;=@[]^`{}";
    for (int byte = 0x80; byte < 0x100; ++byte) signs += static_cast<char>(byte);
    return signs;
  }();
  const std::string out = percent_encoded(name, safe);
  return out.starts_with('.') ? "%2E" + out.substr(1) : out;
}

}  // namespace

std::string file_name_of(const std::string& name) {
  constexpr size_t most = 180;
  std::string whole = encoded(name);
  if (whole.empty()) return "%";
  if (whole.size() <= most) return whole;
  std::array<char, 20> mark{};  // of all of it
  std::snprintf(mark.data(), mark.size(), "~%016llx",
                static_cast<unsigned long long>(XXH3_64bits(name.data(), name.size())));
  for (size_t bytes = most;; --bytes)
    if (const std::string begin = encoded(utf8_prefix(name, bytes)); begin.size() <= most)
      return begin + mark.data();
}

void PictureFiles::write(const std::string& path, const Picture& picture) {
  if (picture.empty()) return;
  std::error_code problem;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), problem);
  if (problem) return say(path, problem.message());
  NewFile file(path);
  file.append(picture.png);
  if (!file.finish_at_once()) say(path, system_error_text(file.problem()));
}

void PictureFiles::say(const std::string& path, const std::string& reason) {
  if (!std::exchange(said_, true))
    log_.warn("cannot write ", path, ": ", reason, "; the run goes on without this picture");
}

}  // namespace detail

namespace {

class PictureTracker final : public Tracker {
 public:
  PictureTracker(std::string folder, Log log) : folder_(std::move(folder)), files_(std::move(log)) {}

  void scalars(const std::vector<Scalar>&, double) override {}
  void text(const std::string&, const std::string&, double) override {}
  void figure(const TrackedFigure& figure, double) override {
    std::string epoch = std::to_string(figure.epoch + 1);
    epoch.insert(0, 4 - std::min<size_t>(epoch.size(), 4), '0');
    const std::string folder = folder_ + '/' + detail::file_name_of(figure.name);
    files_.write(lab::text(folder, '/', detail::file_name_of(figure.stage), "-epoch-", epoch, ".png"),
                 figure.picture);
  }
  void flush() override {}
  void sync() override {}
  std::optional<int64_t> records() const override { return std::nullopt; }

 private:
  std::string folder_;
  detail::PictureFiles files_;
};

}  // namespace

std::unique_ptr<Tracker> picture_tracker(const std::string& folder, Log log) {
  return std::make_unique<PictureTracker>(folder, std::move(log));
}

}  // namespace lab
