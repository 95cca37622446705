#include "lab/core/utf8.h"

namespace lab {

std::string utf8_prefix(const std::string& text, size_t most) {
  if (text.size() <= most) return text;
  constexpr unsigned char kind = 0xC0, inner = 0x80;  // of the bytes of a letter behind its first
  while (most > 0 && (static_cast<unsigned char>(text[most]) & kind) == inner) --most;
  return text.substr(0, most);
}

}  // namespace lab
