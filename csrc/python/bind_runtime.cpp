// What a program asks and sets about the process it runs in.
#include "python/bind_runtime.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/env.h"
#include "device/backend.h"
#include "device/cpu/parallel.h"
#include "device/generator.h"
#include "device/gpu_details.h"
#include "device/sync_debug.h"
#include "device/vendor_library.h"
#include "kernels/settings.h"
#include "python/gil.h"
#include "python/pybind_tensor.h"

namespace pyb = pybind11;

namespace vt::py {
namespace {

DeviceType device_type(const std::string& text) {
  VT_CHECK(text == "cpu" || text == "cuda", kValue, "device_count: expected 'cpu' or 'cuda', got '",
           text, "'");
  return text == "cpu" ? DeviceType::kCPU : DeviceType::kCUDA;
}

void synchronize(Device device) {
  ReleaseGil release(ReleaseGil::kAlways);
  backend(device).synchronize(device.index);
}

// The names of Float32Products, in its order.
constexpr std::string_view kFloat32Products[] = {"ieee", "bf16x6", "tf32"};

std::string float32_products() {
  return std::string(kFloat32Products[static_cast<int>(kernel_settings().float32_products.load())]);
}

void set_float32_products(std::string_view how) {
  const auto* const found = std::ranges::find(kFloat32Products, how);
  VT_CHECK(found != std::end(kFloat32Products), kValue,
           "fp32_precision: expected 'ieee', 'bf16x6' or 'tf32', got '", how, "'");
  kernel_settings().float32_products =
      static_cast<Float32Products>(found - std::begin(kFloat32Products));
}

bool own_gelu_products() { return has_gelu_products() && kernel_settings().own_gelu_products; }

void set_own_gelu_products(bool own) {
  VT_CHECK(!own || has_gelu_products(), kRuntime,
           "gelu_products: this build has no kernels of its own for products with GELU; build it "
           "with CUDA and CUTLASS's headers, or set \"cublaslt\"");
  kernel_settings().own_gelu_products = own;
}

// The state of a generator as 16 bytes: the seed, then how many counters were used.
Tensor get_rng_state(Device device) {
  check_device(device);
  const PhiloxStart state = default_generator(device).state();
  const Tensor t = empty({sizeof(state)}, DType::kU8, {});
  std::memcpy(t.data(), &state, sizeof(state));
  return t;
}

void set_rng_state(Device device, const Tensor& t) {
  check_device(device);
  PhiloxStart state;
  VT_CHECK(t.defined() && t.dtype() == DType::kU8 && t.device().is_cpu() && t.is_dense() &&
               t.bytes() == sizeof(state),
           kRuntime, "set_rng_state: expected the uint8 tensor of ", sizeof(state),
           " bytes that get_rng_state gives, got ", t);
  std::memcpy(&state, t.data(), sizeof(state));
  default_generator(device).set_state(state);
}

// Any Python int is a seed; only its low 64 bits count.
uint64_t seed_of(const pyb::int_& seed) {
  const unsigned long long value = PyLong_AsUnsignedLongLongMask(seed.ptr());
  if (value == static_cast<unsigned long long>(-1) && PyErr_Occurred()) throw PythonError();
  return value;
}

void seed_devices(const pyb::int_& seed, const std::optional<Device>& device) {
  if (device) default_generator(*device).seed(seed_of(seed));
  else manual_seed(seed_of(seed));
}

// 1: a warning at the line of Python, 2: an error.
template <int kMode>
void tell_of_wait(const char* op) {
  if constexpr (kMode == 2)
    fail(ErrorKind::kRuntime, op,
         ": the host would wait for the GPU, which set_sync_debug_mode(\"error\") forbids");
  const HoldGil hold;
  const std::string text = str(op, ": the host waits for the GPU");
  if (PyErr_WarnEx(PyExc_UserWarning, text.c_str(), 1) < 0) throw PythonError();
}

void set_wait_mode(int mode) {
  observe_waits(mode == 2 ? &tell_of_wait<2> : mode == 1 ? &tell_of_wait<1> : nullptr);
}

pyb::list env_switches() {
  pyb::list result;
  for (const env::Switch& each : env::all())
    result.append(pyb::make_tuple(each.name, each.meaning, each.value));
  return result;
}

pyb::dict build_info() {
  pyb::dict result;
  result["version"] = VT_VERSION;
  result["compiler"] = "gcc " __VERSION__;
  result["cuda"] =
      cuda_unavailable_reason().empty() ? std::string("available") : cuda_unavailable_reason();
  const CudaBuild cuda = cuda_build();
  result["cuda_version"] =
      cuda.version > 0 ? str(cuda.version / 1000, '.', cuda.version % 1000 / 10) : std::string();
  result["cuda_architectures"] = cuda.architectures;
  result["cpu_isa"] = env::cpu_isa();
  return result;
}

// (title, path, what to install): path is None where the library is not found.
pyb::list find_vendor_libraries() {
  pyb::list result;
  for (const VendorName& name : vendor_libraries()) {
    pyb::object path = pyb::none();
    try {
      path = pyb::str(VendorLibrary(name).path());
    } catch (const Error&) {}
    result.append(pyb::make_tuple(name.title, path, name.pip_package));
  }
  return result;
}

}  // namespace

void bind_runtime(pyb::module_& module) {
  module.def(
      "device_count", [](const std::string& type) { return device_count(device_type(type)); },
      pyb::arg("type"), "How many devices of type 'cpu' or 'cuda' there are.");
  module.def("set_cpu_devices", &set_cpu_devices, pyb::arg("count"),
             "How many devices cpu:0, cpu:1, ... the process has; from 1 to 64.");
  module.def("current_device", &current_cuda_index, "The GPU that 'cuda' means on this thread.");
  module.def("set_device", &set_current_cuda_index, pyb::arg("index"),
             "Makes 'cuda' mean that GPU on this thread.");
  module.def("cuda_unavailable_reason", &cuda_unavailable_reason,
             "Why there is no GPU to use; '' if there is one.");
  module.def("synchronize", &synchronize, pyb::arg("device"),
             "Waits until all work queued on a device is done.");

  module.def("get_num_threads", &num_threads, "How many threads one CPU operation may use.");
  module.def("set_num_threads", &set_num_threads, pyb::arg("count"),
             "Sets how many threads one CPU operation may use.");
  module.def("get_float32_products", &float32_products,
             "How products of float32 matrices are computed on a GPU: 'ieee', 'bf16x6' or 'tf32'.");
  module.def("set_float32_products", &set_float32_products, pyb::arg("how"),
             "Sets how products of float32 matrices are computed on a GPU.");
  module.def("get_own_gelu_products", &own_gelu_products,
             "Do products with GELU take the kernels that were made for them here?");
  module.def("set_own_gelu_products", &set_own_gelu_products, pyb::arg("own"),
             "Sets whether products with GELU may take the kernels made for them here.");
  module.def(
      "get_cudnn_enabled", [] { return kernel_settings().cudnn_enabled.load(); },
      "May convolutions use cuDNN?");
  module.def(
      "set_cudnn_enabled", [](bool enabled) { kernel_settings().cudnn_enabled = enabled; },
      pyb::arg("enabled"), "Sets whether convolutions may use cuDNN.");
  module.def(
      "get_cudnn_tf32", [] { return kernel_settings().cudnn_tf32.load(); },
      "May float32 convolutions of cuDNN use TF32, whatever products do?");
  module.def(
      "set_cudnn_tf32", [](bool allow) { kernel_settings().cudnn_tf32 = allow; }, pyb::arg("allow"),
      "Sets whether float32 convolutions of cuDNN may use TF32.");
  module.def(
      "get_cudnn_deterministic", [] { return kernel_settings().cudnn_deterministic.load(); },
      "Must cuDNN give the same bits in every run?");
  module.def(
      "set_cudnn_deterministic",
      [](bool deterministic) { kernel_settings().cudnn_deterministic = deterministic; },
      pyb::arg("deterministic"), "Sets whether cuDNN must give the same bits in every run.");

  module.def("manual_seed", &seed_devices, pyb::arg("seed"), pyb::arg("device") = pyb::none(),
             "Starts the random numbers of one device, or of all, again from a seed.");
  module.def(
      "initial_seed",
      [](const std::optional<Device>& device) {
        check_device(device.value_or(Device{}));
        return default_generator(device.value_or(Device{})).initial_seed();
      },
      pyb::arg("device") = pyb::none(), "The seed of a device; of cpu:0 if None.");
  module.def("get_rng_state", &get_rng_state, pyb::arg("device"),
             "The random state of a device, uint8.");
  module.def("set_rng_state", &set_rng_state, pyb::arg("device"), pyb::arg("state"),
             "Continues from a state that get_rng_state gave.");

  module.def("set_wait_mode", &set_wait_mode, pyb::arg("mode"),
             "What happens where the host is about to wait for a GPU: 0 nothing, 1 a warning, 2 an "
             "error.");
  module.def("env_switches", &env_switches,
             "(name, meaning, value or None) of each environment switch.");
  module.def("build_info", &build_info, "Facts about this build.");
  module.def(
      "find_vendor_libraries", &find_vendor_libraries,
      "(title, path or None, pip package) of NVIDIA's libraries; opens those that it finds.");
  module.def("set_library_search_paths", &set_library_search_paths, pyb::arg("folders"),
             "Folders of the Python environment where vendor libraries are looked for.");
}

}  // namespace vt::py
