#include <elf.h>
#include <link.h>

#include <cstring>
#include <iomanip>
#include <sstream>

#include "lab/core/version.h"

namespace lab {
namespace {

constexpr size_t aligned(size_t bytes) { return (bytes + 3) / 4 * 4; }

std::string hex(const unsigned char* bytes, size_t count) {
  std::ostringstream out;
  for (size_t i = 0; i < count; ++i)
    out << std::hex << std::setw(2) << std::setfill('0') << static_cast<int>(bytes[i]);
  return out.str();
}

// The notes of one part of a program: a head, a name, and what the name says about it.
std::string id_in(const unsigned char* notes, size_t bytes) {
  for (size_t at = 0; at + sizeof(ElfW(Nhdr)) <= bytes;) {
    ElfW(Nhdr) note{};
    std::memcpy(&note, notes + at, sizeof note);
    const size_t name = at + sizeof note, value = name + aligned(note.n_namesz);
    at = value + aligned(note.n_descsz);
    if (at > bytes) break;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(notes + name, "GNU", 4) == 0)
      return hex(notes + value, note.n_descsz);
  }
  return "";
}

}  // namespace

std::string build_id() {
  std::string id;
  const auto of_program = [](dl_phdr_info* program, size_t, void* out) {
    for (int i = 0; i < program->dlpi_phnum; ++i) {
      const auto& part = program->dlpi_phdr[i];
      if (part.p_type != PT_NOTE) continue;
      const auto* notes = reinterpret_cast<const unsigned char*>(program->dlpi_addr + part.p_vaddr);
      const std::string found = id_in(notes, part.p_memsz);
      if (!found.empty()) *static_cast<std::string*>(out) = found;
    }
    return 1;  // the first is the program, libraries follow
  };
  dl_iterate_phdr(of_program, &id);
  return id;
}

}  // namespace lab
