// One default generator a device.
#include "device/generator.h"

#include <array>

namespace vt {

void Generator::seed(uint64_t value) {
  std::lock_guard lock(mutex_);
  state_ = {value, 0};
}

uint64_t Generator::initial_seed() const {
  std::lock_guard lock(mutex_);
  return state_.seed;
}

PhiloxState Generator::reserve(uint64_t count) {
  std::lock_guard lock(mutex_);
  const PhiloxState reserved = state_;
  state_.offset += count;
  return reserved;
}

PhiloxState Generator::state() const {
  std::lock_guard lock(mutex_);
  return state_;
}

void Generator::set_state(PhiloxState state) {
  std::lock_guard lock(mutex_);
  state_ = state;
}

Generator& default_generator(Device device) {
  static std::array<std::array<Generator, kMaxDevices>, kDeviceTypeCount> generators;
  return generators[static_cast<int>(device.type)][device.index];
}

void manual_seed(uint64_t seed) {
  for (int type = 0; type < kDeviceTypeCount; ++type)
    for (int i = 0; i < kMaxDevices; ++i)
      default_generator({static_cast<DeviceType>(type), static_cast<uint8_t>(i)}).seed(seed);
}

}  // namespace vt
