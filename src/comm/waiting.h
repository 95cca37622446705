#pragma once
// How ranks of a node wait for each other: counters in memory that they share.

#include <atomic>
#include <cstdint>

namespace lab {

// What a waiting rank does before it sleeps. Looking is the fastest while every rank has a core; where ranks
// outnumber cores, the one that is waited for needs this one.
struct Patience {
  int looks = 0;
  int yields = 0;
  static Patience of(int ranks, int cores);
  // A lane sleeps at once: its core has work meanwhile. To yield instead would be to come back at the next
  // tick of the scheduler's clock only.
  static constexpr Patience of_lane() { return {50, 0}; }
};

// A number of turns, advanced by one rank and awaited by the others. On a cache line of its own. Neither
// side holds a lock, so that any of them may die at any moment; who sleeps looks again from time to time.
class TurnCounter {
 public:
  // Counting begins shortly before it passes 2^32, so that every run goes through that.
  static constexpr uint32_t none_yet = uint32_t{0} - 100;

  // What the owner wrote before is seen by who has awaited it. One thread at a time.
  void advance();
  // Until the count has come to `turns`, of which it may not be further away than 2^31.
  void await(uint32_t turns, const Patience& patience);

 private:
  bool reached(uint32_t turns) const;
  void sleep(uint32_t turns);
  std::atomic<uint32_t> turns_{none_yet}, sleepers_{0};
};

}  // namespace lab
