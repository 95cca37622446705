#include "lab/data/hdf5_writer.h"

#include <fcntl.h>
#include <hdf5.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "data/hdf5_handle.h"
#include "lab/core/error.h"

namespace lab {
namespace {

using detail::Hdf5Handle;

hid_t native_type(DType type) {
  switch (type) {
    case DType::u8:
      return H5T_NATIVE_UINT8;
    case DType::i8:
      return H5T_NATIVE_INT8;
    case DType::u16:
      return H5T_NATIVE_UINT16;
    case DType::i16:
      return H5T_NATIVE_INT16;
    case DType::u32:
      return H5T_NATIVE_UINT32;
    case DType::i32:
      return H5T_NATIVE_INT32;
    case DType::u64:
      return H5T_NATIVE_UINT64;
    case DType::i64:
      return H5T_NATIVE_INT64;
    case DType::f32:
      return H5T_NATIVE_FLOAT;
    case DType::f64:
      return H5T_NATIVE_DOUBLE;
    default:
      throw Bug("cannot write ", name_of(type), " to an HDF5 file");
  }
}

// To be closed.
hid_t type_of(const NewField& field) {
  if (field.text_bytes == 0) return H5Tcopy(native_type(field.type));
  const hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, static_cast<size_t>(field.text_bytes));
  H5Tset_strpad(type, H5T_STR_NULLPAD);
  H5Tset_cset(type, H5T_CSET_UTF8);
  return type;
}

[[noreturn]] void fail(const std::string& path, const std::string& reason) {
  throw IoError("cannot write ", path, ": ", reason, "; check the folder, its rights and its free space");
}

void write_field(hid_t file, const NewField& field, const std::string& path) {
  const std::vector<hsize_t> extents(field.shape.begin(), field.shape.end());
  const Hdf5Handle space(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr),
                         H5Sclose);
  const Hdf5Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(creation, false);  // the same fields, the same bytes
  H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
  const Hdf5Handle type(type_of(field), H5Tclose);
  const Hdf5Handle dataset(
      H5Dcreate2(file, field.name.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT), H5Dclose);
  if (!dataset.valid()) fail(path, detail::hdf5_error());
  if (H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, field.bytes.data()) < 0)
    fail(path, detail::hdf5_error());
}

void write_fields(const std::string& temporary, const std::vector<NewField>& fields,
                  const std::string& path) {
  Hdf5Handle file(H5Fcreate(temporary.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose);
  if (!file.valid()) fail(path, detail::hdf5_error());
  for (const NewField& field : fields) write_field(file, field, path);
  if (H5Fflush(file, H5F_SCOPE_LOCAL) < 0) fail(path, detail::hdf5_error());
}

void sync(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0 || fsync(descriptor) != 0) {
    const int problem = errno;
    if (descriptor >= 0) close(descriptor);
    fail(path, system_error_text(problem));
  }
  close(descriptor);
}

}  // namespace

void write_hdf5(const std::string& path, const std::vector<NewField>& fields) {
  detail::prepare_hdf5();
  const std::string temporary = text(path, ".tmp-", getpid());
  try {
    write_fields(temporary, fields, path);
    sync(temporary);
    if (std::rename(temporary.c_str(), path.c_str()) != 0) fail(path, system_error_text(errno));
    const auto folder = std::filesystem::path(path).parent_path();
    sync(folder.empty() ? "." : folder.string());
  } catch (...) {
    unlink(temporary.c_str());
    throw;
  }
}

}  // namespace lab
