#include "lab/core/process.h"

namespace lab {

void flush_denormals() {}

}  // namespace lab
