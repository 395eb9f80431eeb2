// NVRTC and the folder of compiled kernels.
#include "fuse/compile.h"

#include <dlfcn.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <vector>

#include "base/env.h"
#include "base/error.h"
#include "device/vendor_library.h"
#include "fuse/source.h"

namespace vt::fuse {
namespace {

// The part of NVRTC's C interface that is used here.
using Result = int;
constexpr Result kSuccess = 0;
struct ProgramTag;
using Handle = ProgramTag*;

struct Nvrtc {
  VendorLibrary library{kNvrtc};
#define VT_NVRTC(name, ...) \
  Result (*name)(__VA_ARGS__) = library.function<Result(__VA_ARGS__)>("nvrtc" #name)
  VT_NVRTC(Version, int*, int*);
  VT_NVRTC(CreateProgram, Handle*, const char*, const char*, int, const char* const*,
           const char* const*);
  VT_NVRTC(CompileProgram, Handle, int, const char* const*);
  VT_NVRTC(GetCUBINSize, Handle, size_t*);
  VT_NVRTC(GetCUBIN, Handle, char*);
  VT_NVRTC(GetProgramLogSize, Handle, size_t*);
  VT_NVRTC(GetProgramLog, Handle, char*);
  VT_NVRTC(DestroyProgram, Handle*);
#undef VT_NVRTC
  const char* (*GetErrorString)(Result) =
      library.function<const char*(Result)>("nvrtcGetErrorString");
  int major = 0, minor = 0;

  Nvrtc() {
    check(Version(&major, &minor), "nvrtcVersion");
    // NVRTC opens its second library by name alone, which fails for a copy in a Python environment:
    // the one beside it is loaded first, and never closed.
    const std::filesystem::path path(library.path());
    if (path.has_parent_path())
      (void)dlopen((path.parent_path() / str("libnvrtc-builtins.so.", major, '.', minor)).c_str(),
                   RTLD_NOW | RTLD_GLOBAL);
  }
  void check(Result code, const char* call) const {
    VT_CHECK(code == kSuccess, kRuntime, "fuse: ", call, ": ", GetErrorString(code));
  }
};

struct Loaded {
  Nvrtc* nvrtc = nullptr;
  std::string reason;
};

const Loaded& loaded() {
  static const Loaded instance = [] {
    Loaded result;
    try {
      result.nvrtc = new Nvrtc;
    } catch (const Error& error) { result.reason = error.what(); }
    return result;
  }();
  return instance;
}

// Every rounding step as written: a fused chain gives the bits of its operators one by one.
constexpr const char* kOptions[] = {"--std=c++20", "--fmad=false", "-default-device"};

std::string run_compiler(const Nvrtc& nvrtc, const std::string& source,
                         const std::string& architecture) {
  std::vector<const char*> names, texts;
  for (const Header& header : headers()) {
    names.push_back(header.name);
    texts.push_back(header.text);
  }
  Handle program = nullptr;
  nvrtc.check(nvrtc.CreateProgram(&program, source.c_str(), "fused.cu",
                                  static_cast<int>(names.size()), texts.data(), names.data()),
              "nvrtcCreateProgram");
  struct Destroy {
    const Nvrtc& nvrtc;
    Handle program;
    ~Destroy() { (void)nvrtc.DestroyProgram(&program); }
  } destroy{nvrtc, program};
  const std::string target = "--gpu-architecture=" + architecture;
  std::vector<const char*> options(std::begin(kOptions), std::end(kOptions));
  options.push_back(target.c_str());
  if (const Result code =
          nvrtc.CompileProgram(program, static_cast<int>(options.size()), options.data());
      code != kSuccess) {
    size_t size = 0;
    std::string log;
    if (nvrtc.GetProgramLogSize(program, &size) == kSuccess) {
      log.resize(size);
      (void)nvrtc.GetProgramLog(program, log.data());
    }
    fail(ErrorKind::kRuntime, "fuse: ", nvrtc.GetErrorString(code), " for ", architecture, "\n",
         log, "\nin\n", source);
  }
  size_t size = 0;
  nvrtc.check(nvrtc.GetCUBINSize(program, &size), "nvrtcGetCUBINSize");
  std::string code(size, '\0');
  nvrtc.check(nvrtc.GetCUBIN(program, code.data()), "nvrtcGetCUBIN");
  return code;
}

// FNV-1a.
uint64_t hash(const std::string& text, uint64_t state = 0xcbf29ce484222325u) {
  for (const char c : text) state = (state ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return state;
}

// A file holds the whole key before the code, so that equal names of different keys do no harm.
class DiskCache {
 public:
  DiskCache(const std::string& key) : key_(key) {
    const std::string folder = env::cache_folder();
    if (folder.empty()) return;
    char name[32];
    std::snprintf(name, sizeof name, "%016lx.cubin", static_cast<unsigned long>(hash(key)));
    path_ = std::filesystem::path(folder) / "fuse" / name;
  }

  std::string find() const {
    std::ifstream file(path_, std::ios::binary);
    uint64_t size = 0;
    if (path_.empty() || !file.read(reinterpret_cast<char*>(&size), sizeof size) ||
        size != key_.size())
      return "";
    std::string stored(size, '\0');
    if (!file.read(stored.data(), static_cast<std::streamsize>(size)) || stored != key_) return "";
    return {std::istreambuf_iterator<char>(file), {}};
  }

  // Where the folder cannot be written the kernel is compiled again in the next process.
  void keep(const std::string& code) const {
    if (path_.empty()) return;
    std::error_code ignored;
    std::filesystem::create_directories(path_.parent_path(), ignored);
    const std::string temporary = str(path_.string(), ".", ::getpid());
    const uint64_t size = key_.size();
    bool written = false;
    {
      std::ofstream file(temporary, std::ios::binary);
      file.write(reinterpret_cast<const char*>(&size), sizeof size);
      file << key_ << code;
      written = static_cast<bool>(file.flush());
    }
    if (written) std::filesystem::rename(temporary, path_, ignored);
    else std::filesystem::remove(temporary, ignored);
  }

 private:
  std::string key_;
  std::filesystem::path path_;
};

std::mutex g_mutex;
CompileStats g_stats;

}  // namespace

const std::string& compiler_unavailable_reason() { return loaded().reason; }

CompileStats compile_stats() {
  std::lock_guard lock(g_mutex);
  return g_stats;
}

std::string compile(const std::string& source, const std::string& architecture) {
  VT_CHECK(loaded().nvrtc, kRuntime, compiler_unavailable_reason());
  const Nvrtc& nvrtc = *loaded().nvrtc;
  static const uint64_t library = [] {
    uint64_t state = hash("");
    for (const Header& header : headers()) state = hash(header.text, state);
    for (const char* option : kOptions) state = hash(option, state);
    return state;
  }();
  const DiskCache disk(str(architecture, " nvrtc ", nvrtc.major, '.', nvrtc.minor, " headers ",
                           library, "\n", source));
  if (std::string code = disk.find(); !code.empty()) {
    std::lock_guard lock(g_mutex);
    ++g_stats.from_disk;
    return code;
  }
  const auto start = std::chrono::steady_clock::now();
  std::string code = run_compiler(nvrtc, source, architecture);
  disk.keep(code);
  std::lock_guard lock(g_mutex);
  ++g_stats.compiled;
  g_stats.seconds +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return code;
}

}  // namespace vt::fuse
