#include "train/adam_update.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "lab/comm/wide.h"

namespace lab::detail {
namespace {

constexpr int64_t line_bytes = 64;
// What is fetched so far ahead is there in time, and not yet gone again, when its turn comes.
constexpr int64_t ahead_bytes = 2048;

// The step's numbers, in the elements' type.
template <class T>
struct Factors {
  T parameter, decay;  // AdamW's decay and Adam's: 1 and 0 for none
  T new_gradient, old_square, new_square;
  bool from_gradient;  // an average is nearer to what is new than to what was
  T size, root, eps;

  explicit Factors(const AdamStep& s)
      : parameter(static_cast<T>(s.decoupled ? 1 - s.rate * s.weight_decay : 1)),
        decay(static_cast<T>(s.decoupled ? 0 : s.weight_decay)),
        new_gradient(static_cast<T>(1 - s.beta1)),
        old_square(static_cast<T>(s.beta2)),
        new_square(static_cast<T>(1 - s.beta2)),
        from_gradient(new_gradient >= T{0.5}),
        eps(static_cast<T>(s.eps)) {
    if (from_gradient) new_gradient -= 1;
    const auto number = static_cast<double>(s.number);
    size = static_cast<T>(-s.rate / (1 - std::pow(s.beta1, number)));
    root = static_cast<T>(std::sqrt(1 - std::pow(s.beta2, number)));
  }
};

template <bool decays_gradient, bool amsgrad, class T>
void update_elements(const Factors<T> f, const AdamElements<T> e, int64_t first, int64_t end) {
#pragma GCC ivdep  // no two of the arrays overlap
  for (int64_t i = first; i < end; ++i) {
    const T parameter = e.parameters[i];
    const T gradient = decays_gradient ? std::fma(parameter, f.decay, e.gradients[i]) : e.gradients[i];
    const T average =
        std::fma(f.new_gradient, gradient - e.average[i], f.from_gradient ? gradient : e.average[i]);
    const T squares = std::fma(f.new_square * gradient, gradient, e.squares[i] * f.old_square);
    e.average[i] = average;
    e.squares[i] = squares;
    T scale = squares;
    if constexpr (amsgrad) e.largest[i] = scale = std::max(e.largest[i], squares);
    e.parameters[i] = parameter * f.parameter + f.size * average / (std::sqrt(scale) / f.root + f.eps);
  }
}

template <bool decays_gradient, bool amsgrad, class T>
void update_lines(const Factors<T> f, const AdamElements<T> e, int64_t count) {
  constexpr int64_t line = line_bytes / static_cast<int64_t>(sizeof(T));
  constexpr int64_t ahead = ahead_bytes / static_cast<int64_t>(sizeof(T));
  int64_t i = 0;
  for (; i + line <= count; i += line) {
    const int64_t soon = std::min(i + ahead, count - 1);  // not into what is another rank's
    __builtin_prefetch(e.parameters + soon, 1);
    __builtin_prefetch(e.gradients + soon, 0);
    __builtin_prefetch(e.average + soon, 1);
    __builtin_prefetch(e.squares + soon, 1);
    if constexpr (amsgrad) __builtin_prefetch(e.largest + soon, 1);
    update_elements<decays_gradient, amsgrad>(f, e, i, i + line);
  }
  update_elements<decays_gradient, amsgrad>(f, e, i, count);
}

}  // namespace

template <class T>
void update(const AdamStep& step, const AdamElements<T>& elements, int64_t count) {
  const Factors<T> factors(step);
  const auto with = [&](auto decays_gradient, auto amsgrad) {
    work_in_fused_vectors(
        [&](auto) { update_lines<decays_gradient(), amsgrad()>(factors, elements, count); });
  };
  const auto decaying = [&](auto amsgrad) {
    factors.decay != 0 ? with(std::true_type(), amsgrad) : with(std::false_type(), amsgrad);
  };
  elements.largest != nullptr ? decaying(std::true_type()) : decaying(std::false_type());
}

template void update<float>(const AdamStep&, const AdamElements<float>&, int64_t);
template void update<double>(const AdamStep&, const AdamElements<double>&, int64_t);

}  // namespace lab::detail
