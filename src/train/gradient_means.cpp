#include "train/gradient_means.h"

#include <ATen/ops/linalg_vector_norm.h>
#include <torch/types.h>

#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "lab/comm/wide.h"
#include "lab/core/error.h"

namespace lab {
namespace {

template <class T>
using BitsOf = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

// 1 or 0, by the exponent's bits, which vector instructions compare many at a time: done while they divide.
template <class T>
BitsOf<T> is_not_finite(T value) {
  constexpr auto exponent = std::bit_cast<BitsOf<T>>(std::numeric_limits<T>::infinity());
  return static_cast<BitsOf<T>>((std::bit_cast<BitsOf<T>>(value) & exponent) == exponent);
}

// In eight sums side by side, the same ones whatever the compiler makes of them.
template <class T>
double sum_of_squares(const T* values, int64_t count) {
  std::array<double, 8> sums = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (size_t k = 0; k < 8; ++k) {
      const double value = values[i + static_cast<int64_t>(k)];
      sums[k] += value * value;
    }
  for (; i < count; ++i) sums[0] += static_cast<double>(values[i]) * values[i];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace

void GradientMeans::take(int64_t index, double weight, const GradientChunk& chunk) {
  const int64_t count = chunk.means.count;
  const auto each = [&]<class T>(const T* sums, T* means) {
    const T divisor = static_cast<T>(weight), factor = 1 / divisor;
    int exponent = 0;
    const bool factor_is_exact = std::frexp(divisor, &exponent) == T{0.5} && std::isnormal(factor);
    work_in_wide_vectors([&](auto) {
      BitsOf<T> found = 0;
      const auto make = [&](auto mean_of) {
#pragma GCC ivdep  // see GradientChunk
        for (int64_t i = 0; i < count; ++i) {
          means[i] = mean_of(sums[i]);
          found |= is_not_finite(means[i]);
        }
      };
      if (factor_is_exact)  // then the bits are those of a division, which takes several times as long
        make([factor](T sum) { return sum * factor; });
      else
        make([divisor](T sum) { return sum / divisor; });
      if (found != 0) not_finite_ += 1;
      if (!squares_.empty()) squares_[static_cast<size_t>(index)] = sum_of_squares(means, count);
    });
  };
  if (chunk.means.type == DType::f32)
    each(static_cast<const float*>(chunk.sums), static_cast<float*>(chunk.means.data));
  else if (chunk.means.type == DType::f64)
    each(static_cast<const double*>(chunk.sums), static_cast<double*>(chunk.means.data));
  else
    throw Bug("gradients of type ", name_of(chunk.means.type));
}

void GradientMeans::add_others(Communicator& comm) {
  squares_.push_back(not_finite_);
  comm.all_reduce({squares_.data(), std::ssize(squares_), DType::f64}, ReduceOp::sum);
  not_finite_ = squares_.back();
  squares_.pop_back();
}

at::Tensor make_means(at::Tensor sums, const at::Tensor& weight) {
  sums.div_(weight);
  return at::linalg_vector_norm(sums, 2, {}, false, torch::kFloat64);
}

double GradientMeans::norm() const {
  double sum = 0;
  for (const double square : squares_) sum += square;
  return std::sqrt(sum);
}

}  // namespace lab
