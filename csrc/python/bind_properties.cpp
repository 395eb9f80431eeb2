// What a device is, as a Python object with the names of PyTorch.
#include <cstdio>

#include "device/backend.h"
#include "device/gpu_details.h"
#include "python/bind_runtime.h"
#include "python/pybind_tensor.h"

namespace pyb = pybind11;

namespace vt::py {
namespace {

struct Described : DeviceProperties, GpuDetails {};

Described describe(Device device) {
  check_device(device);
  Described result{backend(device).properties(device.index), {}};
  if (device.is_cuda()) static_cast<GpuDetails&>(result) = gpu_details(device.index);
  return result;
}

// As nvidia-smi writes it, without "GPU-".
std::string uuid_text(const Described& d) {
  std::string text;
  for (size_t i = 0; i < d.uuid.size(); ++i) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", d.uuid[i]);
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += digits;
  }
  return text;
}

std::string represent(const Described& d) {
  std::string text = str("DeviceProperties(name='", d.name, "', major=", d.compute_major,
                         ", minor=", d.compute_minor, ", total_memory=", d.total_memory >> 20,
                         "MB, multi_processor_count=", d.multiprocessors);
  if (d.warp_size > 0)
    text +=
        str(", uuid=", uuid_text(d), ", pci_bus_id=", d.pci_bus, ", pci_device_id=", d.pci_device,
            ", pci_domain_id=", d.pci_domain, ", L2_cache_size=", d.l2_bytes >> 20, "MB");
  return text + ")";
}

}  // namespace

void bind_properties(pyb::module_& module) {
  pyb::class_<Described>(module, "DeviceProperties", "What a device is. Memory is in bytes.")
      .def_readonly("name", &Described::name)
      .def_readonly("total_memory", &Described::total_memory)
      .def_readonly("major", &Described::compute_major)
      .def_readonly("minor", &Described::compute_minor)
      .def_readonly("multi_processor_count", &Described::multiprocessors)
      .def_readonly("pci_domain_id", &Described::pci_domain)
      .def_readonly("pci_bus_id", &Described::pci_bus)
      .def_readonly("pci_device_id", &Described::pci_device)
      .def_property_readonly("uuid", &uuid_text)
      .def_readonly("warp_size", &Described::warp_size)
      .def_readonly("max_threads_per_block", &Described::threads_per_block)
      .def_readonly("max_threads_per_multi_processor", &Described::threads_per_multiprocessor)
      .def_readonly("regs_per_multiprocessor", &Described::registers_per_multiprocessor)
      .def_readonly("shared_memory_per_block", &Described::shared_per_block)
      .def_readonly("shared_memory_per_block_optin", &Described::shared_per_block_optin)
      .def_readonly("shared_memory_per_multiprocessor", &Described::shared_per_multiprocessor)
      .def_readonly("L2_cache_size", &Described::l2_bytes)
      .def_readonly("memory_bus_width", &Described::memory_bus_bits, "Bits.")
      .def_readonly("clock_rate", &Described::clock_khz, "kHz, at most.")
      .def_readonly("memory_clock_rate", &Described::memory_clock_khz, "kHz, at most.")
      .def_property_readonly("is_integrated", [](const Described& d) { return int{d.integrated}; })
      .def_property_readonly("is_multi_gpu_board",
                             [](const Described& d) { return int{d.multi_gpu_board}; })
      .def("__repr__", &represent);
  module.def("device_properties", &describe, pyb::arg("device"),
             "Name, memory and size of a device.");
}

}  // namespace vt::py
