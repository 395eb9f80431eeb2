// The list of algorithms: each is one way to carry out units of one kind, in a file of its own
// below algorithms/, and one line of the list in algorithm.cpp. The choice among them only changes
// speed: all that reduce give the same bits.
#pragma once
#include <span>

#include "collectives/cuda/site.h"

namespace vt::collectives::gpu {

// How a unit is to be carried out; 0: the algorithm's own choice.
struct Plan {
  Algorithm algorithm = Algorithm::kAuto;
  int blocks = 0;    // at most, of a rank
  int threads = 0;   // of a block
  size_t chunk = 0;  // bytes that move as one piece
};

struct AlgorithmEntry {
  Kind kind;
  Algorithm algorithm;
  // Is it the choice for the unit where nothing was measured? Asked in the order of the list.
  bool (*suits)(const Site& site, const Unit& unit);
  // Any unit of the kind whose numel() is not 0, on two ranks and more.
  void (*run)(Site& site, const Unit& unit, const Plan& plan);
  // Calls f for each kernel that run() may launch, so that all are loaded before the first use.
  void (*for_each_kernel)(void (*f)(const void* kernel));
  // Bytes of a mailbox of its own; null: none. run() finds it as site.mailbox(rank, number).
  size_t (*mailbox)(const Mesh& mesh) = nullptr;
  // Copies between devices: not for graphs of one device each, and only worth it for tensors that
  // all devices reach.
  bool by_copy_engine = false;
  // Is more scratch memory worth having for the unit? Null: never.
  bool (*wants_large_scratch)(const Site& site, const Unit& unit) = nullptr;
};

std::span<const AlgorithmEntry> algorithms();
size_t number_of(const AlgorithmEntry& entry);  // in the list
// The entry of this kind and name, or null.
const AlgorithmEntry* find_algorithm(Kind kind, Algorithm algorithm);

// The entry and how to use it: what Options ask for, or what was measured for units like this one,
// or the first that suits.
struct Choice {
  const AlgorithmEntry* entry;
  Plan plan;
};
Choice choose(const Site& site, const Unit& unit);

bool always(const Site& site, const Unit& unit);
// Of an all_reduce over several devices, by the model of their links.
Algorithm fastest_all_reduce(const Site& site, const Unit& unit);

}  // namespace vt::collectives::gpu
