#pragma once
// HDF5 files for the tests of the data layer, written with the library itself.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "lab/core/error.h"
#include "unit/temporary_folder.h"

namespace lab::test {

// `count` different values: 0, 7, 14, ... modulo what T holds.
template <class T>
std::vector<T> numbers(size_t count) {
  std::vector<T> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<T>(i * 7 % 251);
  return values;
}

// A new file, closed when this goes.
class NewFile {
 public:
  explicit NewFile(const std::string& path, bool newest_format = false, hsize_t user_block = 0) {
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS), creation = H5Pcreate(H5P_FILE_CREATE);
    if (newest_format) H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
    H5Pset_userblock(creation, user_block);
    id = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation, access);
    H5Pclose(access);
    H5Pclose(creation);
    if (id < 0) throw std::runtime_error("cannot create " + path);
  }
  ~NewFile() { H5Fclose(id); }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  hid_t id;
};

struct Storage {
  std::vector<hsize_t> chunks = {};  // empty: contiguous
  bool shuffle = false, deflate = false, fletcher32 = false;
  std::vector<hsize_t> most = {};                        // largest extents; empty: the extents
  std::function<void(hid_t creation)> change = nullptr;  // anything else
};

// A dataset of the root group; null `data`: nothing is written.
inline void add_dataset(const NewFile& file, const std::string& name, hid_t file_type, hid_t memory_type,
                        const std::vector<hsize_t>& shape, const void* data, const Storage& storage = {}) {
  const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(),
                                       storage.most.empty() ? nullptr : storage.most.data());
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  if (!storage.chunks.empty())
    H5Pset_chunk(creation, static_cast<int>(storage.chunks.size()), storage.chunks.data());
  if (storage.shuffle) H5Pset_shuffle(creation);
  if (storage.deflate) H5Pset_deflate(creation, 6);
  if (storage.fletcher32) H5Pset_fletcher32(creation);
  if (storage.change) storage.change(creation);
  const hid_t dataset =
      H5Dcreate2(file.id, name.c_str(), file_type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  if (dataset < 0) throw std::runtime_error("cannot create dataset " + name);
  if (data && H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
    throw std::runtime_error("cannot write dataset " + name);
  H5Dclose(dataset);
  H5Pclose(creation);
  H5Sclose(space);
}

inline void add_u8(const NewFile& file, const std::string& name, const std::vector<hsize_t>& shape,
                   const std::vector<uint8_t>& data, const Storage& storage = {}) {
  add_dataset(file, name, H5T_STD_U8LE, H5T_NATIVE_UINT8, shape, data.data(), storage);
}

// What `action` throws as an E; "" when it throws nothing.
template <class E>
std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  return "";
}

}  // namespace lab::test
