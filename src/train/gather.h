#pragma once
// What ranks have of their own samples, one rank's behind the other's.

#include <cstddef>
#include <string>
#include <vector>

#include "lab/comm/communicator.h"
#include "lab/data/sample.h"
#include "lab/data/table.h"

namespace lab {

// The bytes of all ranks in their order, on rank 0; nothing elsewhere. Collective.
std::vector<std::byte> gather(Communicator& comm, std::vector<std::byte> own);
// Likewise.
std::vector<MetadataValue> gather_values(Communicator& comm, const std::vector<MetadataValue>& own);
// i64, f64 where one of the values is no whole number, or texts where one is a text.
TableColumn column_of_metadata(const std::string& name, const std::vector<MetadataValue>& values);

}  // namespace lab
