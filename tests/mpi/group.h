#pragma once
// The ranks that the tests run on.

#include "lab/comm/communicator.h"

lab::Communicator& test_group();
