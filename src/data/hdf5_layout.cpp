// Reads where the samples of a file lie, with the HDF5 library; refuses by name all that plain reads cannot
// follow.
#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "data/geometry.h"
#include "data/hdf5_handle.h"
#include "data/input_file.h"
#include "data/signature.h"
#include "lab/core/error.h"
#include "lab/data/layout.h"

namespace lab {
namespace {

using detail::hdf5_error;
using detail::Hdf5Handle;

// The library's list of chunks takes time with the square of their number.
constexpr hsize_t most_chunks = 50000;

constexpr const char* newer_format = ", or write it in the format of HDF5 1.10 (in h5py: libver=\"v110\")";

struct Place {  // of what is being read, for messages
  std::string path, name;
  std::string text() const { return lab::text("dataset '", name, "' of ", path); }
};

[[noreturn]] void refuse(const Place& place, const std::string& what, const std::string& advice) {
  throw DataError(place.text(), " ", what, ", which is not supported; ", advice);
}

[[noreturn]] void damaged(const Place& place, const std::string& reason) {
  throw DataError(place.text(), " cannot be read: ", reason, "; copy or fetch the file again", newer_format);
}

// With a lock where the file system has them (some shared ones fail to lock): a file that is being written is
// refused.
Hdf5Handle open_file(const std::string& path) {
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  const auto open_it = [&](bool lock) {
    H5Pset_file_locking(access, lock, true);
    return Hdf5Handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access), H5Fclose);
  };
  const std::string unreadable = path + " cannot be read: ", again = "; copy or fetch it again";
  Hdf5Handle file = open_it(true);
  if (file.valid()) return file;
  const std::string reason = hdf5_error();
  if (reason.find("unable to lock file") == std::string::npos)
    throw DataError(unreadable, reason, again, newer_format);
  if (reason.find(text("errno = ", EAGAIN, ",")) != std::string::npos)
    throw DataError(path, " is open for writing elsewhere (", reason,
                    "); close it there, or set HDF5_USE_FILE_LOCKING=FALSE if it is not");
  Hdf5Handle unlocked = open_it(false);
  if (unlocked.valid()) return unlocked;
  throw DataError(unreadable, hdf5_error(), again);
}

std::string link_name(hid_t file, hsize_t index, const std::string& path) {
  std::string name(1024, '\0');
  const ssize_t length =
      H5Lget_name_by_idx(file, ".", H5_INDEX_NAME, H5_ITER_INC, index, name.data(), name.size(), H5P_DEFAULT);
  if (length < 0) throw DataError("the root group of ", path, " cannot be read: ", hdf5_error());
  if (static_cast<size_t>(length) >= name.size())
    throw DataError("the root group of ", path, " has a name of ", length,
                    " characters; give datasets short names");
  name.resize(static_cast<size_t>(length));
  if (std::ranges::any_of(name, [](unsigned char c) { return std::iscntrl(c); }))
    throw DataError("the root group of ", path, " holds the name ", quoted(name),
                    "; use names without control characters");
  return name;
}

void refuse_links(hid_t file, const Place& place) {
  H5L_info_t link{};
  if (H5Lget_info(file, place.name.c_str(), &link, H5P_DEFAULT) < 0) damaged(place, hdf5_error());
  const std::string advice =
      "put the dataset itself into the file (h5repack copies one, h5py's File.copy too)";
  if (link.type == H5L_TYPE_SOFT) refuse(place, "is a soft link", advice);
  if (link.type == H5L_TYPE_EXTERNAL) refuse(place, "is an external link (a link to another file)", advice);
  if (link.type != H5L_TYPE_HARD) refuse(place, "is a user-defined link", advice);
}

// Before anything asks for the dataset's extent, which for a virtual dataset would open other files.
void refuse_other_files(hid_t creation, const Place& place) {
  if (H5Pget_layout(creation) == H5D_VIRTUAL)
    refuse(place, "is a virtual dataset (its data lie in other datasets)", "copy it into a plain dataset");
  if (H5Pget_external_count(creation) != 0)
    refuse(place, "has external storage (its data lie in another file)", "copy its data into the file");
}

DType integer_type(hid_t type, const Place& place) {
  const size_t size = H5Tget_size(type);
  const bool has_sign = H5Tget_sign(type) == H5T_SGN_2;
  if (H5Tget_precision(type) == size * 8) switch (size) {
      case 1:
        return has_sign ? DType::i8 : DType::u8;
      case 2:
        return has_sign ? DType::i16 : DType::u16;
      case 4:
        return has_sign ? DType::i32 : DType::u32;
      case 8:
        return has_sign ? DType::i64 : DType::u64;
      default:
        break;
    }
  refuse(place, text("holds integers of ", H5Tget_precision(type), " bits"), "use 8, 16, 32 or 64 bits");
}

DType float_type(hid_t type, const Place& place) {
  struct Format {
    DType type;
    size_t size, exponent_bits, mantissa_bits;
  };
  constexpr std::array formats = {Format{DType::f16, 2, 5, 10}, Format{DType::bf16, 2, 8, 7},
                                  Format{DType::f32, 4, 8, 23}, Format{DType::f64, 8, 11, 52}};
  size_t sign = 0, exponent = 0, exponent_bits = 0, mantissa = 0, mantissa_bits = 0;
  H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits);
  const size_t size = H5Tget_size(type), bias = H5Tget_ebias(type);
  for (const Format& format : formats)
    if (size == format.size && exponent_bits == format.exponent_bits &&
        mantissa_bits == format.mantissa_bits && mantissa == 0 && exponent == mantissa_bits &&
        sign == size * 8 - 1 && bias == (size_t{1} << (exponent_bits - 1)) - 1)
      return format.type;
  refuse(place, text("holds floats of ", size * 8, " bits in a format of their own"), "use f32 or f64");
}

bool is_bool(hid_t type) {  // as h5py writes it
  if (H5Tget_nmembers(type) != 2) return false;
  int8_t value = -1;
  const auto has = [&](const char* name, int8_t wanted) {
    const Hdf5Handle base(H5Tget_super(type), H5Tclose);
    return H5Tget_size(base) == 1 && H5Tenum_valueof(type, name, &value) >= 0 && value == wanted;
  };
  return has("FALSE", 0) && has("TRUE", 1);
}

const char* name_of_class(H5T_class_t type_class) {
  switch (type_class) {
    case H5T_COMPOUND:
      return "a compound type";
    case H5T_REFERENCE:
      return "a reference type";
    case H5T_VLEN:
      return "a variable-length sequence type";
    case H5T_ARRAY:
      return "an array type";
    case H5T_OPAQUE:
      return "an opaque type";
    case H5T_BITFIELD:
      return "a bit field type";
    case H5T_TIME:
      return "a time type";
    default:
      return "an unknown type";
  }
}

void read_type(hid_t type, FieldLayout& field, const Place& place) {
  switch (const H5T_class_t type_class = H5Tget_class(type)) {
    case H5T_INTEGER:
      field.type = integer_type(type, place);
      break;
    case H5T_FLOAT:
      field.type = float_type(type, place);
      break;
    case H5T_ENUM: {
      const Hdf5Handle base(H5Tget_super(type), H5Tclose);
      read_type(base, field, place);
      if (is_bool(type)) field.type = DType::boolean;
      return;
    }
    default:
      refuse(place, text("has ", name_of_class(type_class)),
             "write each part as a dataset of integers or floats");
  }
  const H5T_order_t order = H5Tget_order(type);
  if (order != H5T_ORDER_LE && order != H5T_ORDER_BE)
    refuse(place, "has a mixed byte order", "use little-endian");
  field.big_endian = order == H5T_ORDER_BE && size_of(field.type) > 1;
}

void read_filters(hid_t creation, FieldLayout& field, const Place& place) {
  for (int i = 0; i < H5Pget_nfilters(creation); ++i) {
    unsigned flags = 0, configuration = 0;
    size_t values = 0;
    std::array<char, 64> name{};
    const H5Z_filter_t id = H5Pget_filter2(creation, static_cast<unsigned>(i), &flags, &values, nullptr,
                                           name.size(), name.data(), &configuration);
    const Filter filter = id == H5Z_FILTER_SHUFFLE   ? Filter::shuffle
                          : id == H5Z_FILTER_DEFLATE ? Filter::deflate
                                                     : Filter::fletcher32;
    if (filter == Filter::fletcher32 && id != H5Z_FILTER_FLETCHER32)
      refuse(place, text("uses the filter ", quoted(std::string(name.data())), " (number ", id, ")"),
             text("use shuffle, deflate and fletcher32 only, for example: h5repack -f ", place.name,
                  ":GZIP=4 old.h5 new.h5, or compression=\"gzip\" in h5py"));
    if (std::ranges::find(field.filters, filter) != field.filters.end())
      refuse(place, "uses the same filter twice", "use each once");
    field.filters.push_back(filter);
  }
}

// Contiguous data: one place in the file.
void read_contiguous(hid_t dataset, FieldLayout& field, const Place& place) {
  if (field.samples() == 0) return;
  const haddr_t offset = H5Dget_offset(dataset);
  if (offset == HADDR_UNDEF)
    throw DataError(place.text(), " was created but never written; write its data, or remove it");
  field.offset = offset;
}

void refuse_fill_value(hid_t creation, const Place& place) {
  double fill = 0;
  H5D_fill_value_t defined = H5D_FILL_VALUE_UNDEFINED;
  H5Pfill_value_defined(creation, &defined);
  if (defined != H5D_FILL_VALUE_USER_DEFINED) return;
  if (H5Pget_fill_value(creation, H5T_NATIVE_DOUBLE, &fill) < 0 || fill != 0)
    refuse(place, text("has chunks that were never written and stand for ", shortest(fill)),
           "write all of them");
}

size_t chunk_index(const FieldLayout& field, const std::vector<int64_t>& grid,
                   const std::vector<hsize_t>& first) {
  int64_t index = 0;
  for (size_t d = 0; d < grid.size(); ++d)
    index = index * grid[d] + static_cast<int64_t>(first[d]) / field.chunk_shape[d];
  return static_cast<size_t>(index);
}

void read_chunks(hid_t dataset, hid_t space, hid_t creation, FieldLayout& field, const Place& place) {
  const std::vector<int64_t> grid = detail::chunk_grid(field);
  hsize_t stored = 0, declared = 1;
  if (H5Dget_num_chunks(dataset, space, &stored) < 0) damaged(place, hdf5_error());
  for (const int64_t extent : grid) {
    if (extent > 0 && declared > most_chunks / static_cast<hsize_t>(extent))
      refuse(place, text("has more than ", most_chunks, " chunks"),
             text("use larger ones, or none at all: h5repack -l ", place.name, ":CONTI old.h5 new.h5"));
    declared *= static_cast<hsize_t>(extent);
  }
  if (stored > declared) damaged(place, text("it has ", stored, " chunks and room for ", declared));
  field.chunks.resize(declared);
  std::vector<hsize_t> first(grid.size());
  for (hsize_t i = 0; i < stored; ++i) {
    haddr_t address = HADDR_UNDEF;
    hsize_t bytes = 0;
    unsigned mask = 0;
    if (H5Dget_chunk_info(dataset, space, i, first.data(), &mask, &address, &bytes) < 0)
      damaged(place, hdf5_error());
    for (size_t d = 0; d < grid.size(); ++d)
      if (first[d] >= static_cast<hsize_t>(field.shape[d]))
        damaged(place, text("chunk ", i, " lies outside of it"));
    if (address != HADDR_UNDEF) field.chunks[chunk_index(field, grid, first)] = {address, bytes, mask};
  }
  if (std::ranges::any_of(field.chunks, [](const Chunk& chunk) { return chunk.bytes == 0; }))
    refuse_fill_value(creation, place);
}

void read_chunk_shape(hid_t file, hid_t creation, FieldLayout& field, const Place& place) {
  std::vector<hsize_t> extents(field.shape.size());
  const int rank = H5Pget_chunk(creation, static_cast<int>(extents.size()), extents.data());
  if (rank != static_cast<int>(extents.size()) || std::ranges::count(extents, hsize_t{0}) > 0)
    damaged(place, "its chunks have the wrong shape");
  field.chunk_shape.assign(extents.begin(), extents.end());
  unsigned options = 0;
  if (H5Pget_chunk_opts(creation, &options) < 0 || options != 0)
    refuse(place, "has partial edge chunks without filters", "write it without H5Pset_chunk_opts");
  // The library's versions disagree on whether the addresses of chunks count from behind the user block.
  const Hdf5Handle file_creation(H5Fget_create_plist(file), H5Pclose);
  hsize_t user_block = 0;
  if (H5Pget_userblock(file_creation, &user_block) < 0 || user_block != 0)
    refuse(place, text("is chunked in a file with a user block of ", user_block, " bytes"),
           "write the file without one, or the dataset without chunks");
}

void read_shape(hid_t space, FieldLayout& field, const Place& place) {
  std::vector<hsize_t> extents(static_cast<size_t>(H5Sget_simple_extent_ndims(space)));
  H5Sget_simple_extent_dims(space, extents.data(), nullptr);
  field.shape.assign(extents.begin(), extents.end());
  if (std::ranges::any_of(field.shape, [](int64_t extent) { return extent < 0; }))
    damaged(place, "it is endless");
}

void read_storage(hid_t file, hid_t dataset, hid_t space, hid_t creation, FieldLayout& field,
                  const Place& place) {
  switch (H5Pget_layout(creation)) {
    case H5D_CONTIGUOUS:
      read_contiguous(dataset, field, place);
      break;
    case H5D_CHUNKED:
      read_filters(creation, field, place);
      read_chunk_shape(file, creation, field, place);
      read_chunks(dataset, space, creation, field, place);
      break;
    case H5D_COMPACT:
      refuse(place, "is stored inside its header (compact)",
             text("write it contiguously, for example: h5repack -l ", place.name, ":CONTI old.h5 new.h5"));
    default:
      refuse(place, "has an unknown storage layout", "write it contiguously or in chunks");
  }
}

// One text of a fixed length per sample, as bytes (N, length). Others, and those that plain reads cannot
// follow, are left out: only who asks for one as metadata needs it.
void read_texts(hid_t file, hid_t dataset, hid_t space, hid_t creation, hid_t type, FileLayout& layout,
                const Place& place) {
  if (H5Sget_simple_extent_ndims(space) != 1 || H5Tis_variable_str(type) != 0) return;
  FieldLayout field{.name = place.name};
  try {
    read_shape(space, field, place);
    read_storage(file, dataset, space, creation, field, place);
    const auto length = static_cast<int64_t>(H5Tget_size(type));
    field.shape.push_back(length);
    if (!field.chunk_shape.empty()) field.chunk_shape.push_back(length);
    if (std::ranges::find(field.filters, Filter::shuffle) != field.filters.end()) return;  // of whole texts
    detail::check_layout({layout.path, layout.file_bytes, {}, {field}});
  } catch (const DataError&) {
    return;
  }
  layout.texts.push_back(std::move(field));
}

// Scalars are left out.
void read_dataset(hid_t file, hid_t dataset, FileLayout& layout, const Place& place) {
  const Hdf5Handle creation(H5Dget_create_plist(dataset), H5Pclose);
  if (!creation.valid()) damaged(place, hdf5_error());
  refuse_other_files(creation, place);
  const Hdf5Handle space(H5Dget_space(dataset), H5Sclose);
  const Hdf5Handle type(H5Dget_type(dataset), H5Tclose);
  if (!space.valid() || !type.valid()) damaged(place, hdf5_error());
  if (H5Sget_simple_extent_ndims(space) <= 0) return;
  if (H5Tget_class(type) == H5T_STRING)
    return read_texts(file, dataset, space, creation, type, layout, place);
  FieldLayout field{.name = place.name};
  read_type(type, field, place);
  read_shape(space, field, place);
  read_storage(file, dataset, space, creation, field, place);
  layout.fields.push_back(std::move(field));
}

}  // namespace

FileLayout read_layout(const std::string& path) {
  detail::prepare_hdf5();
  const detail::InputFile bytes(path);
  detail::check_hdf5_signature(bytes);
  const Hdf5Handle file = open_file(path);
  H5G_info_t group{};
  if (H5Gget_info(file, &group) < 0)
    throw DataError("the root group of ", path, " cannot be read: ", hdf5_error());
  FileLayout layout{path, bytes.size(), {}};
  for (hsize_t i = 0; i < group.nlinks; ++i) {
    const Place place{path, link_name(file, i, path)};
    refuse_links(file, place);
    const Hdf5Handle object(H5Oopen(file, place.name.c_str(), H5P_DEFAULT), H5Oclose);
    if (!object.valid()) damaged(place, hdf5_error());
    if (H5Iget_type(object) == H5I_DATASET) read_dataset(file, object, layout, place);
  }
  detail::check_layout(layout);
  return layout;
}

}  // namespace lab
