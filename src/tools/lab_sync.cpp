// lab_sync RUN_FOLDER ...: sends to ClearML what it does not have yet of a run.

#include "lab/app/programs.h"

int main(int argc, char** argv) { return lab::sync_main(argc, argv); }
