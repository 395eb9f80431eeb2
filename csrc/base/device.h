// A device id: `cpu:i` or `cuda:i`. Knows how to print and parse itself, not whether it exists.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/macros.h"

namespace vt {

enum class DeviceType : uint8_t { kCPU, kCUDA };
inline constexpr int kDeviceTypeCount = 2;
inline constexpr int kMaxDevices = 64;  // per type

struct Device {
  DeviceType type = DeviceType::kCPU;
  uint8_t index = 0;

  constexpr bool operator==(const Device&) const = default;
  constexpr bool is_cpu() const { return type == DeviceType::kCPU; }
  constexpr bool is_cuda() const { return type == DeviceType::kCUDA; }
};

std::string to_string(Device device);
std::ostream& operator<<(std::ostream& out, Device device);

// "cpu", "cpu:2", "cuda", "cuda:0". A missing index is -1 in `*index_given` terms: the caller fills
// in the current device.
struct ParsedDevice {
  Device device;
  bool has_index;
};
ParsedDevice parse_device(std::string_view text);

}  // namespace vt
