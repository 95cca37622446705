#pragma once
// The ranks that the tests run on.

#include "lab/comm/communicator.h"
#include "lab/comm/world.h"

lab::World& test_world();
lab::Communicator& test_group();  // of the backend that users get
