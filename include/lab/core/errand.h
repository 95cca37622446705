#pragma once
// What a collective is for, in a word: told by who asks for it, read by who writes it down.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace lab {

// Plain bytes, to be stored as they are.
struct ErrandText {
  std::array<char, 16> name{};  // ends at the first 0, or at its end
  int32_t number = -1;          // of several alike; -1: none
};
std::string text_of(const ErrandText& errand);  // "gradient bucket 3"; "" for none

// As long as it lives, the collectives of this thread are for that; the innermost one counts. The name is cut
// after 16 bytes. Costs no more than the copy.
class Errand {
 public:
  explicit Errand(std::string_view name, int64_t number = -1);
  ~Errand();
  Errand(const Errand&) = delete;
  Errand& operator=(const Errand&) = delete;
  static const ErrandText& of_this_thread();

 private:
  ErrandText before_;
};

}  // namespace lab
