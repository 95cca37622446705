#include <xmmintrin.h>

#include "lab/core/process.h"

namespace lab {

void flush_denormals() {
  constexpr unsigned flush_to_zero = 0x8000, denormals_are_zeros = 0x0040;
  _mm_setcsr(_mm_getcsr() | flush_to_zero | denormals_are_zeros);
}

}  // namespace lab
