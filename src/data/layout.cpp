#include "lab/data/layout.h"

#include <string.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/geometry.h"
#include "lab/core/error.h"
#include "lab/core/process.h"

namespace lab {

using nlohmann::json;

NLOHMANN_JSON_SERIALIZE_ENUM(Filter, {{Filter::shuffle, "shuffle"},
                                      {Filter::deflate, "deflate"},
                                      {Filter::fletcher32, "fletcher32"}})

namespace {

json to_json(const FieldLayout& field) {
  json chunks = json::array();
  for (const Chunk& chunk : field.chunks) chunks.push_back({chunk.offset, chunk.bytes, chunk.filter_mask});
  return {{"name", field.name},       {"type", name_of(field.type)}, {"big_endian", field.big_endian},
          {"shape", field.shape},     {"offset", field.offset},      {"chunk_shape", field.chunk_shape},
          {"filters", field.filters}, {"chunks", std::move(chunks)}};
}

DType dtype_from_name(const std::string& name) {
  for (int i = 0; i <= static_cast<int>(DType::boolean); ++i)
    if (name_of(static_cast<DType>(i)) == name) return static_cast<DType>(i);
  throw DataError("unknown element type ", quoted(name));
}

FieldLayout field_from_json(const json& value) {
  FieldLayout field;
  value.at("name").get_to(field.name);
  field.type = dtype_from_name(value.at("type"));
  value.at("big_endian").get_to(field.big_endian);
  value.at("shape").get_to(field.shape);
  value.at("offset").get_to(field.offset);
  value.at("chunk_shape").get_to(field.chunk_shape);
  value.at("filters").get_to(field.filters);
  for (const json& chunk : value.at("chunks"))
    field.chunks.push_back(
        {chunk.at(0).get<uint64_t>(), chunk.at(1).get<uint64_t>(), chunk.at(2).get<uint32_t>()});
  return field;
}

}  // namespace

namespace {

const FieldLayout* find(const std::vector<FieldLayout>& fields, const std::string& name) {
  const auto found = std::ranges::find(fields, name, &FieldLayout::name);
  return found == fields.end() ? nullptr : &*found;
}

// "; did you mean 'images'?; `what` are: images, labels"
std::string what_there_is(const std::string& name, const std::vector<std::string>& names, const char* what) {
  const std::string near = nearest_name(name, names);
  return text(near.empty() ? "" : text("; did you mean '", near, "'?"), "; ", what,
              " are: ", names.empty() ? "none" : join(names));
}

}  // namespace

const FieldLayout& FileLayout::field(const std::string& name) const {
  if (const FieldLayout* found = find(fields, name)) return *found;
  std::vector<std::string> names;
  for (const FieldLayout& candidate : fields) names.push_back(candidate.name);
  throw DataError(path, " has no field '", name, "'",
                  what_there_is(name, names, "the datasets of its root group"));
}

const FieldLayout& FileLayout::metadata(const std::string& name) const {
  std::vector<std::string> names;
  for (const auto* candidates : {&fields, &texts}) {
    if (const FieldLayout* found = find(*candidates, name)) return *found;
    for (const FieldLayout& candidate : *candidates)
      if (candidate.shape.size() == 1 || candidates == &texts) names.push_back(candidate.name);
  }
  throw DataError(path, " has no '", name, "' that could be metadata",
                  what_there_is(name, names, "its datasets with one number or text per sample"),
                  "; texts need a fixed length and no shuffle filter, in h5py: dtype=\"S20\"");
}

std::string to_text(const FileLayout& layout) {
  json fields = json::array();
  for (const FieldLayout& field : layout.fields) fields.push_back(to_json(field));
  json all = {{"path", layout.path}, {"file_bytes", layout.file_bytes}, {"fields", std::move(fields)}};
  for (const FieldLayout& field : layout.texts) all["texts"].push_back(to_json(field));
  // A path need not be UTF-8; whoever asked for the layout knows it.
  return all.dump(-1, ' ', false, json::error_handler_t::replace);
}

FileLayout layout_from_text(const std::string& text_of_layout) {
  FileLayout layout;
  try {
    const json all = json::parse(text_of_layout);
    all.at("path").get_to(layout.path);
    all.at("file_bytes").get_to(layout.file_bytes);
    for (const json& field : all.at("fields")) layout.fields.push_back(field_from_json(field));
    if (all.contains("texts"))
      for (const json& field : all.at("texts")) layout.texts.push_back(field_from_json(field));
  } catch (const json::exception& problem) {
    throw DataError("this is not the layout of a data file: ", problem.what(),
                    "; is lab_data of the same version as this program?");
  }
  detail::check_layout(layout);
  return layout;
}

FileLayout read_layout_in_helper(const std::string& path, const std::string& helper) {
  const std::string program = helper.empty() ? program_folder() + "/lab_data" : helper;
  if (!std::filesystem::exists(program))
    throw Unavailable("the program ", quoted(program),
                      ", which reads the layout of data files, is not there; "
                      "build or install lab_data beside this program");
  const ProgramResult result = run_program({program, "layout", "--", path});
  std::string message = result.error.substr(0, result.error.find_last_not_of('\n') + 1);
  constexpr std::string_view speaker = "lab_data: ";
  if (message.starts_with(speaker)) message.erase(0, speaker.size());
  if (result.status > 128)
    throw DataError("the HDF5 library crashed on ", path, " (", strsignal(result.status - 128),
                    "); the file is damaged or hostile: copy or fetch it again");
  switch (static_cast<ExitCode>(result.status)) {
    case ExitCode::done: {
      FileLayout layout = layout_from_text(result.output);
      layout.path = path;
      return layout;
    }
    case ExitCode::bad_data:
      throw DataError(message);
    case ExitCode::no_input:
      throw InputNotFound(message);
    case ExitCode::io:
      throw IoError(message);
    default:
      throw Bug(program, " ended with ", result.status, " instead of the layout of ", path, ": ", message);
  }
}

}  // namespace lab
