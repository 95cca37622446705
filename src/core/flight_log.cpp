#include "lab/core/flight_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>

#include "core/flight_format.h"
#include "lab/core/error.h"

namespace lab {
namespace {

using detail::FlightHead, detail::FlightSlot, detail::flight_slots;

class File {
 public:
  explicit File(const std::string& path)
      : path_(path), fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (fd_ < 0 && (errno == ENOENT || errno == ENOTDIR))
      throw InputNotFound("there is no flight record ", quoted(path), "; name one, or the folder of a run");
    if (fd_ < 0) throw IoError("cannot open ", quoted(path), ": ", system_error_text(errno));
  }
  ~File() { close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // Up to so many bytes from the start.
  std::string head(size_t most) const {
    std::string bytes(most, '\0');
    size_t done = 0;
    while (done < most) {
      const ssize_t got = pread(fd_, bytes.data() + done, most - done, static_cast<off_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw IoError("cannot read ", quoted(path_), ": ", system_error_text(errno));
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    bytes.resize(done);
    return bytes;
  }

 private:
  const std::string& path_;
  int fd_;
};

template <class... Parts>
[[noreturn]] void damaged(const std::string& path, const Parts&... parts) {
  throw DataError(quoted(path), " is damaged: ", parts...,
                  "; the records of the other ranks may do without it");
}

template <class Value>
Value value_at(const std::string& bytes, size_t at) {
  Value value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

FlightHead checked_head(const std::string& bytes, const std::string& path) {
  if (bytes.size() < sizeof(FlightHead) ||
      !std::equal(detail::flight_magic.begin(), detail::flight_magic.end(), bytes.begin()))
    throw DataError(quoted(path),
                    " is no flight record of this version of lab; they are called rank-NNNN.fr");
  const auto head = value_at<FlightHead>(bytes, 0);
  if (bytes.size() != detail::flight_file_bytes)
    damaged(path, "it has ", bytes.size() > detail::flight_file_bytes ? "more than " : "",
            std::min(bytes.size(), detail::flight_file_bytes), " bytes, not ", detail::flight_file_bytes);
  if (head.slots != flight_slots || head.slot_bytes != sizeof(FlightSlot) || head.ranks < 1 ||
      head.rank < 0 || head.rank >= head.ranks || head.announced < 0 || head.lost < 0 ||
      head.lost > head.ranks || head.leaving < 0 || head.leaving > static_cast<int>(Leaving::by_abort))
    damaged(path, "its head holds numbers that cannot be");
  return head;
}

FlightEntry entry_of(const FlightSlot& slot, const std::string& path) {
  if (slot.kind < static_cast<int>(Collective::all_reduce) ||
      slot.kind > static_cast<int>(Collective::all_reduce_bf16) ||
      slot.type > static_cast<int>(DType::boolean) || slot.phase > static_cast<int>(Phase::ending) ||
      slot.bytes < 0 || slot.step < -1 || (slot.ended != 0 && slot.ended < slot.began))
    damaged(path, "collective ", slot.sequence, " holds numbers that cannot be");
  FlightEntry entry;
  static_cast<CollectiveCall&>(entry) = {slot.sequence,
                                         static_cast<Collective>(slot.kind),
                                         static_cast<DType>(slot.type),
                                         static_cast<Phase>(slot.phase),
                                         slot.step,
                                         slot.bytes,
                                         slot.began};
  entry.ended = slot.ended;
  entry.purpose = text_of(slot.purpose);
  for (char& c : entry.purpose)
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = '?';
  return entry;
}

// The whole slots. `announced_later`: read after them; the slots that were taken meanwhile are not looked at.
std::vector<FlightEntry> entries_in(const std::string& bytes, int64_t announced, int64_t announced_later,
                                    const std::string& path) {
  std::vector<FlightEntry> entries;
  for (int64_t i = 0; i < flight_slots; ++i) {
    const auto slot =
        value_at<FlightSlot>(bytes, sizeof(FlightHead) + sizeof(FlightSlot) * static_cast<size_t>(i));
    const bool newest = announced % flight_slots == i;
    if ((i - announced % flight_slots + flight_slots - 1) % flight_slots < announced_later - announced)
      continue;
    if (slot.sequence == 0 || (newest && slot.sequence == announced - flight_slots)) continue;
    if (slot.sequence % flight_slots != i || slot.sequence > announced ||
        slot.sequence <= announced - flight_slots)
      damaged(path, "slot ", i, " says it holds collective ", slot.sequence, " of ", announced);
    entries.push_back(entry_of(slot, path));
  }
  std::ranges::sort(entries, {}, &FlightEntry::sequence);
  for (size_t i = 1; i < entries.size(); ++i)
    if (entries[i].sequence != entries[i - 1].sequence + 1)
      damaged(path, "collective ", entries[i - 1].sequence + 1, " is missing");
  return entries;
}

}  // namespace

FlightLog read_flight_log(const std::string& path) {
  const File file(path);
  const std::string bytes = file.head(detail::flight_file_bytes + 1);
  const FlightHead head = checked_head(bytes, path);
  const int64_t later = checked_head(file.head(detail::flight_file_bytes + 1), path).announced;
  FlightLog log;
  log.path = path;
  log.rank = head.rank;
  log.ranks = head.ranks;
  log.pid = head.pid;
  log.host.assign(head.host.begin(), std::find(head.host.begin(), head.host.end(), '\0'));
  log.leaving = static_cast<Leaving>(head.leaving);
  log.exit_code = head.exit_code;
  if (head.lost > 0) log.lost = head.lost - 1;
  log.last = head.announced;
  log.wall_clock = head.wall_clock - head.monotonic_clock;
  log.entries = entries_in(bytes, head.announced, later, path);
  log.torn = log.last > 0 && (log.entries.empty() || log.entries.back().sequence != log.last);
  if (log.torn && !log.entries.empty() && log.entries.back().sequence != log.last - 1)
    damaged(path, "its head counts ", log.last, " collectives, its slots ", log.entries.back().sequence);
  return log;
}

namespace {

std::string newest_start(const std::string& folder) {
  const auto starts = flight_starts(folder);
  return starts.empty() ? folder : text(folder, '/', starts.back());
}

}  // namespace

std::vector<std::string> flight_files(const std::string& path) {
  namespace fs = std::filesystem;
  if (!fs::is_directory(path)) return {path};
  std::vector<std::string> files;
  for (const std::string& folder : {path, newest_start(path), newest_start(path + "/flight")}) {
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(folder, none))
      if (entry.path().extension() == ".fr") files.push_back(entry.path().string());
    if (files.empty()) continue;
    std::sort(files.begin(), files.end());
    return files;
  }
  throw InputNotFound("there are no flight records in ", quoted(path),
                      "; a run keeps them in flight/ of its folder, unless its log says why not");
}

std::vector<int64_t> flight_starts(const std::string& folder) {
  std::vector<int64_t> starts;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    const std::string name = entry.path().filename().string();
    int64_t number = 0;
    const auto [stop, problem] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (problem == std::errc() && stop == name.data() + name.size() && number > 0) starts.push_back(number);
  }
  std::sort(starts.begin(), starts.end());
  return starts;
}

const FlightEntry* FlightLog::find(int64_t sequence) const {
  if (entries.empty() || sequence < entries.front().sequence || sequence > entries.back().sequence)
    return nullptr;
  return &entries[static_cast<size_t>(sequence - entries.front().sequence)];
}

}  // namespace lab
