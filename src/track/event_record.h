#pragma once
// TensorBoard's event files as bytes: protocol buffer messages of a few kinds, each framed as a TFRecord.
// Fields are those of event.proto, summary.proto and tensor.proto of TensorFlow.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lab/track/tracker.h"

namespace lab::detail {

// Where the record that begins at `begin` ends; nullopt when there is no whole one.
std::optional<size_t> record_end(std::string_view file, size_t begin);

// What an event file opens with.
std::string file_version_record(double wall_time);

// Points of one step. Values become 32-bit floats.
std::string scalars_record(std::span<const Scalar> points, double wall_time);

// A text for the Text page, at step 0.
std::string text_record(const std::string& tag, const std::string& value, double wall_time);

// A picture for the Images page; an empty one is an event of nothing.
std::string picture_record(const std::string& tag, const Picture& picture, int64_t step, double wall_time);

}  // namespace lab::detail
