#pragma once
// The ranks that the tests run on.

#include "lab/comm/communicator.h"

lab::Communicator& test_group();
lab::Communicator& second_group();  // the same ranks, for what goes on at the same time
