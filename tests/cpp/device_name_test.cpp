// Device names: what parses, and what the error says for the rest.
#include <gtest/gtest.h>

#include "base/device.h"
#include "base/error.h"
#include "device/backend.h"

namespace vt {
namespace {

std::string failure(std::string_view text) {
  try {
    parse_device(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kRuntime);
    return error.what();
  }
  return "";
}

TEST(DeviceName, Parses) {
  EXPECT_EQ(parse_device("cpu").device, (Device{DeviceType::kCPU, 0}));
  EXPECT_FALSE(parse_device("cuda").has_index);
  EXPECT_EQ(parse_device("cuda:3").device, (Device{DeviceType::kCUDA, 3}));
  EXPECT_TRUE(parse_device("cpu:63").has_index);
  for (int i = 0; i < kMaxDevices; ++i) {
    const Device d{DeviceType::kCUDA, static_cast<uint8_t>(i)};
    EXPECT_EQ(parse_device(to_string(d)).device, d);
  }
}

TEST(DeviceName, ErrorsShowTheText) {
  for (const char* bad : {"", "gpu", "cuda0", "cuda:", "cuda:-1", "cuda:x", "cuda:01", "cuda:1 ",
                          "cpu:64", "cpu:999", "cpu:1000", "CPU", "cuda:0:1"}) {
    const std::string text = failure(bad);
    EXPECT_FALSE(text.empty()) << bad;
    EXPECT_NE(text.find("'" + std::string(bad) + "'"), std::string::npos) << text;
  }
}

TEST(DeviceName, ADeviceThatDoesNotExistIsAnErrorThatSaysWhatDoes) {
  const Device missing{DeviceType::kCPU, 63};
  try {
    check_device(missing);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("cpu:63"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace vt
