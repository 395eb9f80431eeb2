// NVIDIA's libraries, opened at run time and only where something needs them: one build imports on
// any machine.
#pragma once
#include <initializer_list>
#include <string>
#include <vector>

namespace vt {

// Folders of the Python environment that hold libraries (site-packages/nvidia/*/lib). Set before
// the first use.
void set_library_search_paths(std::vector<std::string> folders);

class VendorLibrary {
 public:
  // Tries each soname in turn, and for each: the folders of VIBETENSOR_CUDA_LIBRARY_PATH, a copy
  // that the process has loaded, the Python environment, the system. Throws a RuntimeError that
  // says what to install where none has it.
  VendorLibrary(const char* title, std::initializer_list<const char*> sonames,
                const char* pip_package);

  template <class Signature>
  Signature* function(const char* name) const {
    return reinterpret_cast<Signature*>(symbol(name));
  }
  const std::string& path() const { return path_; }

 private:
  void* symbol(const char* name) const;

  const char* title_;
  std::string path_;
  void* handle_ = nullptr;  // never closed: other threads may be inside
};

}  // namespace vt
