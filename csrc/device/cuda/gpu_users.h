// Which processes hold memory of a GPU, as NVML tells.
#pragma once
#include <string>

namespace vt::cuda {

// "process 17 (5.00 GiB), process 42 (1.20 GiB)" without this process; "" where there is none, or
// no NVML to ask.
std::string other_users(int index) noexcept;

}  // namespace vt::cuda
