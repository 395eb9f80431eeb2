// Random state of a device: a seed and how far its counter-based Philox stream has been used.
#pragma once
#include <cstdint>
#include <mutex>

#include "base/device.h"
#include "base/macros.h"

namespace vt {

// Where random numbers start: element i of an operation draws from counter `offset + i` of key
// `seed`, so the numbers do not depend on threads, blocks or kind of device.
struct PhiloxStart {
  uint64_t seed;
  uint64_t offset;
};

// What a kernel takes. In a captured graph the start changes with each replay, so it is read from
// the device and the kernel holds only its distance from there; that is why there is no other way
// to a seed than start().
class PhiloxState {
 public:
  PhiloxState(uint64_t seed, uint64_t offset) : seed_(seed), offset_(offset) {}
  // `base` points to the seed and the offset of a replay, in device memory.
  PhiloxState(const uint64_t* base, uint64_t distance) : offset_(distance), base_(base) {}

  VT_HD PhiloxStart start() const {
    if (base_) return {base_[0], base_[1] + offset_};
    return {seed_, offset_};
  }

 private:
  uint64_t seed_ = 0;
  uint64_t offset_;
  const uint64_t* base_ = nullptr;
};

class Generator {
 public:
  static constexpr uint64_t kDefaultSeed = 0;

  void seed(uint64_t value);
  uint64_t initial_seed() const;
  // Reserves `count` counters for one operation, or for all of a graph's.
  PhiloxStart reserve(uint64_t count);
  PhiloxStart state() const;
  void set_state(PhiloxStart state);

 private:
  mutable std::mutex mutex_;
  PhiloxStart state_{kDefaultSeed, 0};
};

Generator& default_generator(Device device);
// Counters of the device's default generator for one operation on the calling thread's stream,
// which may be part of a capture.
PhiloxState reserve_random(Device device, uint64_t count);
// torch.manual_seed: every device of every kind.
void manual_seed(uint64_t seed);

}  // namespace vt
