#pragma once
// The backend for CPUs: memory that the ranks of a node share, and another backend between nodes.

#include <functional>
#include <memory>

#include "lab/comm/communicator.h"

namespace lab {

// Those ranks of the job that give the same color, in order of rank; null for a negative one. Collective.
using Split = std::function<std::unique_ptr<Communicator>(int color)>;

// A group of all ranks of the job. `node`: equal for the ranks that share a node, not negative. Throws
// AgreedError, on every rank, where a node refuses shared memory. Collective.
//
// all_reduce within a node: rank r adds slice r of all ranks' buffers, in the order of the ranks, and writes
// the sum into all of them. Between nodes: so many ranks of each node as the smallest one has take a slice
// each, and sum it with their likes on the other nodes. The same bits in every run on the same nodes.
std::unique_ptr<Communicator> shared_communicator(int node, const Split& split);

}  // namespace lab
