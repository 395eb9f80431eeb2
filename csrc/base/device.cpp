// Printing and parsing of device ids.
#include "base/device.h"

#include <ostream>

#include "base/error.h"

namespace vt {

std::string to_string(Device device) {
  return (device.is_cpu() ? "cpu:" : "cuda:") + std::to_string(static_cast<int>(device.index));
}

std::ostream& operator<<(std::ostream& out, Device device) { return out << to_string(device); }

ParsedDevice parse_device(std::string_view text) {
  const size_t colon = text.find(':');
  const std::string_view type = text.substr(0, colon);
  VT_CHECK(type == "cpu" || type == "cuda", kRuntime,
           "device: expected 'cpu', 'cpu:N', 'cuda' or 'cuda:N', got '", text, "'");
  ParsedDevice parsed{{type == "cpu" ? DeviceType::kCPU : DeviceType::kCUDA, 0},
                      colon != std::string_view::npos};
  if (!parsed.has_index) return parsed;
  const std::string_view digits = text.substr(colon + 1);
  const bool valid = !digits.empty() && digits.size() <= 3 &&
                     digits.find_first_not_of("0123456789") == std::string_view::npos &&
                     (digits.size() == 1 || digits[0] != '0');
  VT_CHECK(valid, kRuntime, "device: expected a number after the colon, as in 'cuda:0', got '",
           text, "'");
  const int index = std::stoi(std::string(digits));
  VT_CHECK(index < kMaxDevices, kRuntime, "device: index ", index, " in '", text,
           "' is past the last possible device ", kMaxDevices - 1);
  parsed.device.index = static_cast<uint8_t>(index);
  return parsed;
}

}  // namespace vt
