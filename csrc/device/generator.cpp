// One default generator a device.
#include "device/generator.h"

#include <array>

#include "device/capture.h"

namespace vt {

void Generator::seed(uint64_t value) {
  std::lock_guard lock(mutex_);
  state_ = {value, 0};
}

uint64_t Generator::initial_seed() const {
  std::lock_guard lock(mutex_);
  return state_.seed;
}

PhiloxStart Generator::reserve(uint64_t count) {
  std::lock_guard lock(mutex_);
  const PhiloxStart reserved = state_;
  state_.offset += count;
  return reserved;
}

PhiloxStart Generator::state() const {
  std::lock_guard lock(mutex_);
  return state_;
}

void Generator::set_state(PhiloxStart state) {
  std::lock_guard lock(mutex_);
  state_ = state;
}

Generator& default_generator(Device device) {
  static std::array<std::array<Generator, kMaxDevices>, kDeviceTypeCount> generators;
  return generators[static_cast<int>(device.type)][device.index];
}

PhiloxState reserve_random(Device device, uint64_t count) {
  if (Capture* capture = active_capture(device); VT_UNLIKELY(capture != nullptr))
    return capture->reserve_random(device, count);
  const PhiloxStart start = default_generator(device).reserve(count);
  return {start.seed, start.offset};
}

void manual_seed(uint64_t seed) {
  for (int type = 0; type < kDeviceTypeCount; ++type)
    for (int i = 0; i < kMaxDevices; ++i)
      default_generator({static_cast<DeviceType>(type), static_cast<uint8_t>(i)}).seed(seed);
}

}  // namespace vt
