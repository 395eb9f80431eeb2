// Tracing through CUPTI's activity records.
#include "device/gpu_trace.h"

#include <cuda.h>
#include <cxxabi.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "device/cuda/check.h"
#include "device/cuda/cupti_abi.h"
#include "device/cuda/device.h"
#include "device/cuda/driver.h"
#include "device/cuda/graph.h"
#include "device/vendor_library.h"

namespace vt::profiler {
namespace {

using namespace vt::cuda::cupti;

struct Api {
  VendorLibrary library{kCupti};
  Result (*register_callbacks)(BufferRequested, BufferCompleted) =
      library.function<Result(BufferRequested, BufferCompleted)>("cuptiActivityRegisterCallbacks");
  Result (*enable)(int) = library.function<Result(int)>("cuptiActivityEnable");
  Result (*disable)(int) = library.function<Result(int)>("cuptiActivityDisable");
  Result (*flush)(uint32_t) = library.function<Result(uint32_t)>("cuptiActivityFlushAll");
  Result (*next)(uint8_t*, size_t, Record**) =
      library.function<Result(uint8_t*, size_t, Record**)>("cuptiActivityGetNextRecord");
  Result (*dropped)(void*, uint32_t, size_t*) =
      library.function<Result(void*, uint32_t, size_t*)>("cuptiActivityGetNumDroppedRecords");
  Result (*push)(int, uint64_t) =
      library.function<Result(int, uint64_t)>("cuptiActivityPushExternalCorrelationId");
  Result (*pop)(int, uint64_t*) =
      library.function<Result(int, uint64_t*)>("cuptiActivityPopExternalCorrelationId");
  Result (*timestamp)(uint64_t*) = library.function<Result(uint64_t*)>("cuptiGetTimestamp");
  Result (*callback_name)(int, uint32_t, const char**) =
      library.function<Result(int, uint32_t, const char**)>("cuptiGetCallbackName");
  Result (*result_text)(Result, const char**) =
      library.function<Result(Result, const char**)>("cuptiGetResultString");
};

Api& api() {
  static auto* const instance = new Api;
  return *instance;
}

void check(const char* call, Result code) {
  if (VT_LIKELY(code == kSuccess)) return;
  const char* text = nullptr;
  (void)api().result_text(code, &text);
  fail(ErrorKind::kRuntime, "profiler: ", call, " failed: ", text ? text : "unknown error",
       "; another profiler may be attached (nsys, ncu), or this user may not profile GPUs "
       "(NVreg_RestrictProfilingToAdminUsers)");
}

constexpr Kind kKinds[] = {kConcurrentKernel, kMemcpy,  kMemcpyPeer,         kMemset,
                           kDriver,           kRuntime, kExternalCorrelation};
constexpr size_t kBufferBytes = size_t{4} << 20, kBufferAlignment = 8;

// What the records said, while they arrive on CUPTI's threads.
struct Collected {
  std::mutex mutex;
  GpuTrace trace;
  std::vector<GpuCall> driver_calls;
  std::unordered_map<uint32_t, uint64_t> events;  // by call
  int64_t offset = 0;                             // from CUPTI's clock to ours

  int64_t time(uint64_t ns) const { return static_cast<int64_t>(ns) + offset; }
};

Collected& collected() {
  static auto* const instance = new Collected;
  return *instance;
}

const char* copy_name(uint8_t kind) {
  switch (kind) {
    case 1: return "Memcpy HtoD";
    case 2: return "Memcpy DtoH";
    case 8: return "Memcpy DtoD";
    case 9: return "Memcpy HtoH";
    case 10: return "Memcpy PtoP";
    default: return "Memcpy";
  }
}

void take(const KernelRecord& record, Collected& out) {
  GpuEvent& event = out.trace.events.emplace_back();
  event.kind = GpuEvent::Kind::kKernel;
  event.name = record.name ? record.name : "";
  event.start = out.time(record.start);
  event.end = out.time(record.end);
  event.device = record.device;
  event.stream = record.stream;
  event.call = record.correlation;
  for (int i = 0; i < 3; ++i) {
    event.grid[i] = record.grid[i];
    event.block[i] = record.block[i];
  }
  event.registers = record.registers;
  event.shared_bytes = record.static_shared + record.dynamic_shared;
}

template <class R>
void take_bytes(const R& record, GpuEvent::Kind kind, const char* name, Collected& out) {
  GpuEvent& event = out.trace.events.emplace_back();
  event.kind = kind;
  event.name = name;
  event.start = out.time(record.start);
  event.end = out.time(record.end);
  event.device = record.device;
  event.stream = record.stream;
  event.call = record.correlation;
  event.bytes = record.bytes;
}

void take(const CallRecord& record, int domain, std::vector<GpuCall>& calls) {
  const Collected& out = collected();
  const char* name = nullptr;
  if (api().callback_name(domain, record.function, &name) != kSuccess || !name) return;
  GpuCall& call = calls.emplace_back();
  call.name = name;
  if (const size_t version = call.name.find("_v"); version != std::string::npos)
    call.name.resize(version);
  call.start = out.time(record.start);
  call.end = out.time(record.end);
  call.thread = record.thread;
  call.call = record.correlation;
}

void take(const Record* record, Collected& out) {
  switch (record->kind) {
    case kConcurrentKernel: return take(*reinterpret_cast<const KernelRecord*>(record), out);
    case kMemcpy:
    case kMemcpyPeer: {
      const auto& copy = *reinterpret_cast<const CopyRecord*>(record);
      return take_bytes(copy, GpuEvent::Kind::kCopy, copy_name(copy.copy_kind), out);
    }
    case kMemset:
      return take_bytes(*reinterpret_cast<const FillRecord*>(record), GpuEvent::Kind::kFill,
                        "Memset", out);
    case kRuntime:
      return take(*reinterpret_cast<const CallRecord*>(record), kRuntimeDomain, out.trace.calls);
    case kDriver:
      return take(*reinterpret_cast<const CallRecord*>(record), kDriverDomain, out.driver_calls);
    case kExternalCorrelation: {
      const auto& link = *reinterpret_cast<const CorrelationRecord*>(record);
      if (link.external_kind == kCustomCorrelation) out.events[link.correlation] = link.external;
      return;
    }
  }
}

void buffer_requested(uint8_t** buffer, size_t* size, size_t* most_records) {
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(kBufferAlignment, kBufferBytes));
  *size = *buffer ? kBufferBytes : 0;
  *most_records = 0;  // as many as fit
}

void buffer_completed(void* context, uint32_t stream, uint8_t* buffer, size_t, size_t valid) {
  Collected& out = collected();
  {
    std::lock_guard lock(out.mutex);
    Record* record = nullptr;
    while (valid > 0 && api().next(buffer, valid, &record) == kSuccess) take(record, out);
    size_t dropped = 0;
    if (api().dropped(context, stream, &dropped) == kSuccess) out.trace.dropped += dropped;
  }
  std::free(buffer);
}

std::string readable(const std::string& mangled) {
  int status = 0;
  char* text = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
  std::string result = status == 0 && text ? text : mangled;
  std::free(text);
  return result;
}

// Calls visit(index) for every device that the process uses; asks the driver, so as not to start
// others.
template <class Visit>
void for_used_devices(Visit visit) {
  static const auto state = vt::cuda::driver_function_as<CUresult(CUdevice, unsigned*, int*)>(
      "cuDevicePrimaryCtxGetState", 12000);
  for (int index = 0; index < vt::cuda::count(); ++index) {
    unsigned flags = 0;
    int active = 0;
    if (state(index, &flags, &active) != CUDA_SUCCESS || !active) continue;
    vt::cuda::DeviceGuard guard(index);
    visit(index);
  }
}

void synchronize_used_devices() {
  for_used_devices([](int) { VT_CUDA(cudaDeviceSynchronize()); });
}

// CUPTI takes memory of a device for its records with the first kernel that it sees there. That may
// wait for the device, which then must not be busy with a kernel that waits for another device's:
// so that first kernel is one that waits for nothing.
void record_first_kernels() {
  for_used_devices([](int index) {
    uint64_t* word = nullptr;
    VT_CUDA(cudaMalloc(reinterpret_cast<void**>(&word), sizeof(*word)));
    const uint64_t zero = 0;
    vt::cuda::write_words(index, word, &zero, 1);
    VT_CUDA(cudaDeviceSynchronize());
    VT_CUDA(cudaFree(word));
  });
}

}  // namespace

void start_gpu_trace() {
  VT_CHECK(vt::cuda::count() > 0, kRuntime,
           "profiler: the GPU cannot be traced: ", vt::cuda::unavailable_reason());
  Api& cupti = api();
  static const Result registered = cupti.register_callbacks(buffer_requested, buffer_completed);
  check("cuptiActivityRegisterCallbacks", registered);
  synchronize_used_devices();  // what was queued before is not part of it
  Collected& out = collected();
  try {
    for (Kind kind : kKinds) check("cuptiActivityEnable", cupti.enable(kind));
    record_first_kernels();
    check("cuptiActivityFlushAll", cupti.flush(1));  // those are not part of it either
  } catch (const Error&) {
    for (Kind kind : kKinds) (void)cupti.disable(kind);
    throw;
  }
  uint64_t theirs = 0;
  check("cuptiGetTimestamp", cupti.timestamp(&theirs));
  std::lock_guard lock(out.mutex);
  out.offset = profiler_clock() - static_cast<int64_t>(theirs);
  out.trace = {};
  out.driver_calls.clear();
  out.events.clear();
}

GpuTrace stop_gpu_trace() {
  Api& cupti = api();
  synchronize_used_devices();
  check("cuptiActivityFlushAll", cupti.flush(1));
  for (Kind kind : kKinds) check("cuptiActivityDisable", cupti.disable(kind));
  Collected& out = collected();
  std::lock_guard lock(out.mutex);
  GpuTrace result = std::move(out.trace);
  out.trace = {};
  std::map<std::string, std::string> names;
  auto event_of = [&](uint32_t call) {
    const auto found = out.events.find(call);
    return found == out.events.end() ? 0 : found->second;
  };
  for (GpuEvent& each : result.events) {
    each.event = event_of(each.call);
    if (each.kind != GpuEvent::Kind::kKernel) continue;
    auto [entry, fresh] = names.try_emplace(each.name);
    if (fresh) entry->second = readable(each.name);
    each.name = entry->second;
  }
  // The runtime calls the driver: of the driver's calls, those are shown that queued something and
  // that no call of the runtime stands for.
  std::unordered_set<uint32_t> wanted;
  for (const GpuEvent& each : result.events) wanted.insert(each.call);
  for (const GpuCall& each : result.calls) wanted.erase(each.call);
  for (GpuCall& each : out.driver_calls)
    if (wanted.contains(each.call)) result.calls.push_back(std::move(each));
  out.driver_calls.clear();
  for (GpuCall& each : result.calls) each.event = event_of(each.call);
  out.events.clear();
  return result;
}

void enter_gpu_event(uint64_t event) { (void)api().push(kCustomCorrelation, event); }
void leave_gpu_event() {
  uint64_t last = 0;
  (void)api().pop(kCustomCorrelation, &last);
}

}  // namespace vt::profiler
