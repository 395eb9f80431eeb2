// Random state of a device: a seed and how far its counter-based Philox stream has been used.
#pragma once
#include <cstdint>
#include <mutex>

#include "base/device.h"
#include "base/macros.h"

namespace vt {

// What a kernel needs: element i of an operation draws from counter `offset + i` of key `seed`, so
// the numbers do not depend on threads, blocks or kind of device.
struct PhiloxState {
  uint64_t seed;
  uint64_t offset;
};

class Generator {
 public:
  static constexpr uint64_t kDefaultSeed = 0;

  void seed(uint64_t value);
  uint64_t initial_seed() const;
  // Reserves `count` counters for one operation.
  PhiloxState reserve(uint64_t count);
  PhiloxState state() const;
  void set_state(PhiloxState state);

 private:
  mutable std::mutex mutex_;
  PhiloxState state_{kDefaultSeed, 0};
};

Generator& default_generator(Device device);
// torch.manual_seed: every device of every kind.
void manual_seed(uint64_t seed);

}  // namespace vt
