#pragma once
// What reading and writing with the HDF5 library share: handles that close themselves, and its error texts.

#include <cstdint>
#include <string>
#include <utility>

namespace lab::detail {

// Owns one identifier of the HDF5 library (a hid_t) and closes it.
class Hdf5Handle {
 public:
  Hdf5Handle(int64_t id, int (*close)(int64_t)) : id_(id), close_(close) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  ~Hdf5Handle() {
    if (id_ >= 0) close_(id_);
  }
  Hdf5Handle& operator=(Hdf5Handle&&) = delete;

  bool valid() const { return id_ >= 0; }
  operator int64_t() const { return id_; }

 private:
  int64_t id_;
  int (*close_)(int64_t);
};

// Keeps the library from printing, and from loading code that a file or the environment names.
void prepare_hdf5();

// What the library's last call failed at, in its own words; to be asked for before the next call.
std::string hdf5_error();

}  // namespace lab::detail
