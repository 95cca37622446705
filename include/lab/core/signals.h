#pragma once
// Requests to stop, as signals bring them.

#include <chrono>

namespace lab {

// From now on SIGUSR1, SIGTERM and SIGINT ask for a stop; a second one of them ends the process at once, by
// that signal. What arrives within a tenth of a second of the first (SIGUSR1: half a second) is taken for the
// same request, because launchers tend to deliver one request by several ways; so is a SIGTERM within
// `term_repeats` of the first. To be called once, before any thread exists.
void catch_stop_signals(std::chrono::nanoseconds term_repeats = std::chrono::milliseconds(100));

// The signal that asked for a stop; 0: none so far. For any thread.
int stop_signal();

}  // namespace lab
