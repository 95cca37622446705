#pragma once
// Loops over many numbers with the widest vectors that the processor has, in a program that runs on all of
// them.

#include <cstddef>
#include <type_traits>

namespace lab {

// Bytes of a vector that fits into one register.
template <size_t bytes>
using VectorBytes = std::integral_constant<size_t, bytes>;

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)

namespace detail {

// The compiler makes one function of the work and all that it calls, with vectors of 256 bits. Numbers are
// the same: no operation is another one, and none are fused.
template <class Work>
[[gnu::target("avx2,prfchw"), gnu::flatten, gnu::noinline]] void work_in_avx2(const Work& work) {
  work(VectorBytes<32>());
}

}  // namespace detail

// Calls work(VectorBytes) once. What it calls must be visible here to gain from it.
template <class Work>
void work_in_wide_vectors(const Work& work) {
  static const bool avx2 = __builtin_cpu_supports("avx2");
  if (avx2)
    detail::work_in_avx2(work);
  else
    work(VectorBytes<16>());
}

namespace detail {

template <class Work>
[[gnu::target("avx2,fma,prfchw"), gnu::flatten, gnu::noinline]] void work_in_avx2_and_fma(const Work& work) {
  work(VectorBytes<32>());
}

}  // namespace detail

// Whether std::fma is one instruction in such work, not a call.
inline bool has_fused_vectors() {
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return has;
}

// The same for work that calls std::fma, in a source that is compiled with -ffp-contract=off: nothing else is
// fused.
template <class Work>
void work_in_fused_vectors(const Work& work) {
  if (has_fused_vectors())
    detail::work_in_avx2_and_fma(work);
  else
    work(VectorBytes<16>());
}

#else

template <class Work>
void work_in_wide_vectors(const Work& work) {
  work(VectorBytes<16>());
}

inline bool has_fused_vectors() {
#if defined(__FP_FAST_FMA) && defined(__FP_FAST_FMAF)
  return true;
#else
  return false;
#endif
}

template <class Work>
void work_in_fused_vectors(const Work& work) {
  work(VectorBytes<16>());
}

#endif

}  // namespace lab
