// NVIDIA's libraries, opened at run time and only where something needs them: one build imports on
// any machine.
#pragma once
#include <array>
#include <span>
#include <string>
#include <vector>

namespace vt {

struct VendorName {
  const char* title;
  std::array<const char*, 2> sonames;  // newest first; null: no second one
  const char* pip_package;
};

inline constexpr VendorName kCublasLt = {
    "cuBLASLt", {"libcublasLt.so.13", "libcublasLt.so.12"}, "nvidia-cublas"};
inline constexpr VendorName kCudnn = {"cuDNN", {"libcudnn.so.9"}, "nvidia-cudnn-cu13"};
inline constexpr VendorName kNvrtc = {
    "NVRTC", {"libnvrtc.so.13", "libnvrtc.so.12"}, "nvidia-cuda-nvrtc"};
inline constexpr VendorName kNccl = {"NCCL", {"libnccl.so.2"}, "nvidia-nccl-cu13"};
inline constexpr VendorName kCupti = {
    "CUPTI", {"libcupti.so.13", "libcupti.so.12"}, "nvidia-cuda-cupti"};
inline constexpr VendorName kNvml = {
    "NVML", {"libnvidia-ml.so.1"}, "nvidia-ml-py with the NVIDIA driver"};

std::span<const VendorName> vendor_libraries();

// Folders of the Python environment that hold libraries (site-packages/nvidia/*/lib). Set before
// the first use.
void set_library_search_paths(std::vector<std::string> folders);

class VendorLibrary {
 public:
  // Tries each soname in turn, and for each: the folders of VIBETENSOR_CUDA_LIBRARY_PATH, a copy
  // that the process has loaded, the Python environment, the system. Throws a RuntimeError that
  // says what to install where none has it.
  explicit VendorLibrary(const VendorName& name);

  template <class Signature>
  Signature* function(const char* name) const {
    return reinterpret_cast<Signature*>(symbol(name));
  }
  const std::string& path() const { return path_; }

 private:
  void* symbol(const char* name) const;

  VendorName name_;
  std::string path_;
  void* handle_ = nullptr;  // never closed: other threads may be inside
};

}  // namespace vt
