#pragma once
// Two small files, and what a dataset that is made of them holds.

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lab/data/source.h"
#include "test_files.h"

namespace lab::test {

// a.h5: 10 images (2, 3) with the labels 0 to 9, patients 0, 0, 1, 1, ... and names "n0", "n1", ...; b.h5: 4
// with the labels 100 to 103, of the patients 4, 4, 5, 5.
class DigitFiles : public testing::Test {
 protected:
  DigitFiles() {
    write(a_path, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {0, 0, 1, 1, 2, 2, 3, 3, 4, 4});
    write(b_path, {100, 101, 102, 103}, {4, 4, 5, 5});
  }

  static void write(const std::string& path, const std::vector<uint8_t>& labels,
                    const std::vector<int32_t>& patients) {
    const NewFile file(path);
    const hsize_t count = labels.size();
    add_u8(file, "images", {count, 2, 3}, numbers<uint8_t>(count * 6));
    add_u8(file, "labels", {count}, labels);
    add_dataset(file, "patients", H5T_STD_I32LE, H5T_NATIVE_INT32, {count}, patients.data());
    std::string names;
    for (hsize_t i = 0; i < count; ++i) names += std::string("n") + static_cast<char>('0' + i) + '\0';
    const hid_t three = H5Tcopy(H5T_C_S1);
    H5Tset_size(three, 3);
    add_dataset(file, "names", three, three, {count}, names.data());
    H5Tclose(three);
  }

  const std::map<std::string, FileLayout>& layouts(const std::vector<Dataset>& datasets) const {
    for (const Dataset& dataset : datasets)
      for (const std::string& path : dataset.files())
        if (!layouts_.contains(path)) layouts_.emplace(path, read_layout(path));
    return layouts_;
  }
  std::vector<std::shared_ptr<const Source>> open_all(const std::vector<Dataset>& datasets,
                                                      int64_t ranks_on_node = 1) const {
    return open_datasets(datasets, layouts(datasets), ranks_on_node);
  }
  std::shared_ptr<const Source> open(const Dataset& dataset) const { return open_all({dataset}).front(); }
  // What opening it throws as an E; "" when it throws nothing.
  template <class E>
  std::string refusal(const std::function<Dataset()>& make) const {
    return message_of<E>([&] { open(make()); });
  }

  TemporaryFolder folder;
  const std::string a_path = folder / "a.h5", b_path = folder / "b.h5";
  const Dataset a = hdf5(a_path, {"images", "labels"}).with_metadata({"patients", "names"});
  const Dataset b = hdf5(b_path, {"images", "labels"}).with_metadata({"patients", "names"});

 private:
  mutable std::map<std::string, FileLayout> layouts_;
};

inline std::vector<int64_t> ids_of(const Source& source) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < source.size(); ++i) ids.push_back(source.file_index(i));
  return ids;
}

inline std::vector<int> labels_of(const Source& source) {
  std::vector<int> labels;
  Sample sample;
  for (int64_t i = 0; i < source.size(); ++i) {
    source.read(i, sample);
    EXPECT_EQ(sample.id, source.file_index(i));
    labels.push_back(static_cast<int>(sample["labels"].number()));
  }
  return labels;
}

inline bool even(const Sample& sample) { return static_cast<int>(sample["labels"].number()) % 2 == 0; }

// Labels one up.
inline Transform one_up() {
  return map("one_up", [](Sample& sample, Rng&) { ++*sample["labels"].data<uint8_t>(); });
}

}  // namespace lab::test
