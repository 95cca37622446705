#include "lab/train/torch_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>

#include "lab/core/error.h"
#include "train/tensor_bytes.h"
#include "train/torch_archive.h"
#include "train/torch_objects.h"
#include "train/torch_pickle.h"

namespace lab {
namespace {

using detail::TorchArchive;
using detail::TorchObjects;
using Bytes = std::span<const std::byte>;

using detail::Descriptor;

// All of a file, at an address that torch's alignment of tensors holds for.
struct FileBytes {
  static constexpr std::align_val_t alignment{64};
  struct Free {
    void operator()(std::byte* owned) const { operator delete(owned, alignment); }
  };
  std::unique_ptr<std::byte, Free> memory;
  size_t size = 0;
  Bytes all() const { return {memory.get(), size}; }
};

FileBytes read_whole(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd < 0 && (errno == ENOENT || errno == ENOTDIR))
    throw InputNotFound("the file ", quoted(path),
                        " is not there; check the path (it is relative to the current folder)");
  struct stat info {};
  if (file.fd < 0 || fstat(file.fd, &info) != 0) throw IoError("cannot open it: ", system_error_text(errno));
  if (!S_ISREG(info.st_mode))
    throw InputNotFound(quoted(path), " is a folder or a device, a checkpoint file is wanted");
  FileBytes out;
  out.size = static_cast<size_t>(info.st_size);
  out.memory.reset(
      static_cast<std::byte*>(operator new(std::max<size_t>(out.size, 1), FileBytes::alignment)));
  for (size_t done = 0; done < out.size;) {
    const ssize_t got = ::read(file.fd, out.memory.get() + done, std::min(out.size - done, size_t{1} << 30));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw IoError("cannot read it: ", system_error_text(errno));
    if (got == 0)
      throw DataError("it became shorter while it was read; leave checkpoints alone while they are in use");
    done += static_cast<size_t>(got);
  }
  return out;
}

void refuse_other_kinds(Bytes file) {
  constexpr std::array<unsigned char, 6> legacy = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc};
  const auto starts_with = [&](auto bytes) {
    return file.size() >= bytes.size() &&
           std::equal(bytes.begin(), bytes.end(), file.begin(), [](auto a, std::byte b) {
             return static_cast<unsigned char>(a) == static_cast<unsigned char>(b);
           });
  };
  if (starts_with(legacy))
    throw DataError(
        "it is of the form that torch.save had before PyTorch 1.6; in Python: torch.save(torch.load(IN, "
        "weights_only=True), OUT) writes today's");
  if (!starts_with(std::string_view("PK\3\4")))
    throw DataError(
        "it does not begin as a file of torch.save; name a .ckpt or .pt file, and if it is one, copy it "
        "again");
}

void refuse_other_archives(const TorchArchive& archive) {
  for (const auto& [name, bytes] : archive.entries)
    if (name == "constants.pkl" || name.starts_with("code/"))
      throw DataError(
          "it is a TorchScript program, not a checkpoint; in Python: "
          "torch.save(torch.jit.load(IN).state_dict(), "
          "OUT) writes its weights");
  const auto order = archive.entries.find("byteorder");
  if (order == archive.entries.end()) return;  // before PyTorch 2.1
  const std::string word(reinterpret_cast<const char*>(order->second.data()), order->second.size());
  if (word != "little")
    throw DataError("its numbers are ", quoted(word.substr(0, 20)),
                    " endian, lab reads little endian ones; load and save it ",
                    "again in Python on such a machine");
}

// All that the values of a file point into.
struct Content {
  explicit Content(FileBytes bytes)
      : file(std::move(bytes)),
        archive(detail::read_torch_archive(file.all())),
        objects([this](const std::string& key) { return storage(key); }, file.size) {}

  Bytes storage(const std::string& key) const {
    const auto found = archive.entries.find("data/" + key);
    if (found == archive.entries.end())
      throw DataError("the entry ", quoted(("data/" + key).substr(0, 100)),
                      " is missing; copy the file again, or take another one");
    return found->second;
  }

  FileBytes file;
  TorchArchive archive;
  TorchObjects objects;
};

}  // namespace

const TorchValue* TorchValue::find(std::string_view key) const {
  if (kind != Kind::dict) return nullptr;
  for (size_t i = 0; i < items().size(); i += 2)
    if (items()[i]->kind == Kind::text && items()[i]->text() == key) return items()[i + 1];
  return nullptr;
}

TorchFile::TorchFile(std::string path) : path_(std::move(path)) {
  try {
    FileBytes bytes = read_whole(path_);
    refuse_other_kinds(bytes.all());
    const auto content = std::make_shared<Content>(std::move(bytes));
    refuse_other_archives(content->archive);
    root_ = detail::run_pickle(content->archive.entries.at("data.pkl"), content->objects);
    has_checksums_ = content->archive.has_checksums;
    content_ = content;
  } catch (const DataError& error) {
    throw DataError(quoted(path_), " cannot be used: ", error.what());
  } catch (const IoError& error) {
    throw IoError(quoted(path_), ": ", error.what(), "; check the disk it is on");
  } catch (const std::bad_alloc&) {
    throw IoError(quoted(path_), " does not fit into memory; run where there is more of it");
  }
}

}  // namespace lab
