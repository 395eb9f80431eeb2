// Where vendor libraries are looked for.
#include "device/vendor_library.h"

#include <dlfcn.h>

#include <mutex>
#include <sstream>

#include "base/env.h"
#include "base/error.h"

namespace vt {
namespace {

struct SearchPaths {
  std::mutex mutex;
  std::vector<std::string> folders;
};

SearchPaths& search_paths() {
  static auto* const instance = new SearchPaths;
  return *instance;
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::istringstream in(list);
  for (std::string part; std::getline(in, part, ':');)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

}  // namespace

void set_library_search_paths(std::vector<std::string> folders) {
  std::lock_guard lock(search_paths().mutex);
  search_paths().folders = std::move(folders);
}

std::span<const VendorName> vendor_libraries() {
  static constexpr VendorName kAll[] = {kCublasLt, kCudnn, kNvrtc, kNccl, kCupti, kNvml};
  return kAll;
}

VendorLibrary::VendorLibrary(const VendorName& name) : name_(name) {
  const std::vector<std::string> first = split(env::cuda_library_path());
  std::vector<std::string> environment;
  {
    std::lock_guard lock(search_paths().mutex);
    environment = search_paths().folders;
  }
  std::string reason;
  auto open = [&](const std::string& path, int flags) {
    handle_ = dlopen(path.c_str(), flags);
    if (handle_) {
      path_ = path;
    } else if (const char* text = dlerror(); text && !(flags & RTLD_NOLOAD)) {
      // A file that is there but does not load says more than one that is not there.
      if (reason.empty() || std::string(text).find("No such file") == std::string::npos)
        reason = text;
    }
    return handle_ != nullptr;
  };
  for (const char* soname : name.sonames) {
    if (!soname) break;
    for (const std::string& folder : first)
      if (open(folder + '/' + soname, RTLD_NOW | RTLD_LOCAL)) return;
    if (open(soname, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD)) return;
    for (const std::string& folder : environment)
      if (open(folder + '/' + soname, RTLD_NOW | RTLD_LOCAL)) return;
    if (open(soname, RTLD_NOW | RTLD_LOCAL)) return;
  }
  fail(ErrorKind::kRuntime, "cuda: ", name.title, " (", name.sonames[0],
       ") is needed and was not found: pip install ", name.pip_package,
       " (or vibetensor[cuda]), or set VIBETENSOR_CUDA_LIBRARY_PATH to its folder; the last reason "
       "was: ",
       reason);
}

void* VendorLibrary::symbol(const char* name) const {
  void* address = dlsym(handle_, name);
  VT_CHECK(address, kRuntime, "cuda: ", name_.title, " at ", path_, " has no ", name,
           "; install a newer version");
  return address;
}

}  // namespace vt
