#pragma once
// The environment variables by which lab_run talks to its ranks.

namespace lab {

// A random text, the same at each restart: whose a run is, and which processes are lab_run's.
inline constexpr const char* run_id_variable = "LAB_RUN_ID";
// A file that rank 0 replaces after each saved checkpoint: the run's folder and its optimizer steps, a line
// each.
inline constexpr const char* progress_variable = "LAB_RUN_PROGRESS";
// "1": the --resume is lab_run's own, and means only a run that this lab_run began; else "0".
inline constexpr const char* own_run_variable = "LAB_RUN_OWN";

}  // namespace lab
