// What was measured: which algorithm is the fastest for units of a kind and size, by GPU and number
// of ranks. Filled from a packaged file and one of the user's; engines take their part when they
// are made.
#pragma once
#include <string>
#include <vector>

#include "collectives/engine.h"

namespace vt::collectives {

struct Measured {
  // For which units.
  std::string gpu;  // the name of every device of the mesh
  int ranks = 0;
  int devices = 0;  // on which the ranks are
  Kind kind = Kind::kAllReduce;
  int item_bytes = 0;         // of an element; 0: any
  std::string place = "any";  // "in", "out" or "any": is the output the input?
  size_t up_to = 0;           // bytes of a part
  // What is the fastest.
  Algorithm algorithm = Algorithm::kAuto;
  int blocks = 0, threads = 0;  // 0: the algorithm's own choice
  size_t chunk_bytes = 0;
};

// Replaces the table of the process; in the order of preference: the first row that fits counts.
// ValueError, and the table stays, where a row asks for what no kernel can be.
void set_measured(std::vector<Measured> rows);
std::vector<Measured> measured();
// The rows for a mesh of GPUs of this name.
std::vector<Measured> measured_for(const fabric::Mesh& mesh, const std::string& gpu);

// The row for a unit, or null where nothing was measured: of the rows that fit and that usable(row)
// is true of, the one with the smallest limit that is not below `bytes`; of equal ones the first.
template <class Usable>
const Measured* find_measured(const std::vector<Measured>& rows, Kind kind, size_t item_bytes,
                              bool in_place, size_t bytes, const Usable& usable) {
  const Measured* best = nullptr;
  for (const Measured& row : rows) {
    if (row.kind != kind || row.up_to < bytes) continue;
    if (row.item_bytes != 0 && row.item_bytes != static_cast<int>(item_bytes)) continue;
    if (row.place != "any" && (row.place == "in") != in_place) continue;
    if ((!best || row.up_to < best->up_to) && usable(row)) best = &row;
  }
  return best;
}

}  // namespace vt::collectives
