#include "train/name_patterns.h"

#include <algorithm>
#include <set>

#include "lab/core/error.h"
#include "lab/train/parameter_groups.h"

namespace lab {
namespace {

bool matches_whole(std::string_view name, std::string_view pattern) {
  size_t n = 0, p = 0, star = std::string_view::npos, taken = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {  // let the last star take one more
      p = star + 1;
      n = ++taken;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

// The parameters' names, and those of the layers that they are in, and what comes last in them.
std::vector<std::string> names_in(const torch::nn::Module& module) {
  std::vector<std::string> names;
  std::set<std::string> layers;
  for (const auto& item : module.named_parameters()) {
    names.push_back(item.key());
    for (size_t dot = item.key().find('.'); dot != std::string::npos; dot = item.key().find('.', dot + 1)) {
      layers.insert(item.key().substr(0, dot));
      layers.insert(item.key().substr(dot + 1));
    }
  }
  names.insert(names.end(), layers.begin(), layers.end());
  return names;
}

// Its longest stretch without dots and stars at the ends.
std::string bare(const std::string& pattern) {
  const size_t first = pattern.find_first_not_of("*."), last = pattern.find_last_not_of("*.");
  return first == std::string::npos ? "" : pattern.substr(first, last - first + 1);
}

}  // namespace

bool matches(std::string_view name, std::string_view pattern) {
  if (matches_whole(name, pattern)) return true;
  for (size_t dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.', dot + 1))
    if (matches_whole(name.substr(0, dot), pattern)) return true;
  return false;
}

void require_matches(std::span<const std::string> patterns, const torch::nn::Module& module,
                     const std::string& whose) {
  const auto parameters = module.named_parameters().keys();
  for (const std::string& pattern : patterns) {
    if (std::ranges::any_of(parameters, [&](const auto& name) { return matches(name, pattern); })) continue;
    const std::string near = nearest_name(bare(pattern), names_in(module));
    throw ConfigError(whose, " a pattern ", quoted(pattern), " that matches no parameter",
                      near.empty() ? "" : text("; did you mean ", quoted(near), "?"),
                      near.empty() ? "; there are " : " There are ", join(parameters));
  }
}

}  // namespace lab
