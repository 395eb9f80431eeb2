// The table of the process.
#include "collectives/tuning.h"

#include <mutex>

#include "base/error.h"

namespace vt::collectives {
namespace {

struct Table {
  std::mutex mutex;
  std::vector<Measured> rows;
};

Table& table() {
  static auto* const instance = new Table;  // communicators may outlive static destruction
  return *instance;
}

}  // namespace

void set_measured(std::vector<Measured> rows) {
  for (const Measured& row : rows) {
    VT_CHECK(row.ranks > 0 && row.devices > 0 && row.item_bytes >= 0 && row.blocks >= 0, kValue,
             "set_measured: a row has ", row.ranks, " ranks, ", row.devices, " devices, ",
             row.item_bytes, " bytes of an element and ", row.blocks,
             " blocks; ranks and devices must be positive, and none below 0");
    VT_CHECK(row.threads % 32 == 0 && row.threads >= 0 && row.threads <= 1024, kValue,
             "set_measured: threads must be a multiple of 32 up to 1024, or 0, got ", row.threads);
    VT_CHECK(row.place == "in" || row.place == "out" || row.place == "any", kValue,
             "set_measured: place must be in, out or any, got '", row.place, "'");
  }
  std::lock_guard lock(table().mutex);
  table().rows = std::move(rows);
}

std::vector<Measured> measured() {
  std::lock_guard lock(table().mutex);
  return table().rows;
}

std::vector<Measured> measured_for(const fabric::Mesh& mesh, const std::string& gpu) {
  std::vector<Measured> found;
  for (Measured& row : measured())
    if (row.gpu == gpu && row.ranks == mesh.size() &&
        row.devices == static_cast<int>(mesh.devices().size()))
      found.push_back(std::move(row));
  return found;
}

}  // namespace vt::collectives
