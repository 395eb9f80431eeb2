// Of NVIDIA's CUPTI, the little that is used: the functions, and the heads of the records. The
// library is opened at run time; the fields below lie where they are here in CUPTI 12 and 13.
#pragma once
#include <cstddef>
#include <cstdint>

namespace vt::cuda::cupti {

using Result = int;
inline constexpr Result kSuccess = 0;

enum Kind : int32_t {
  kMemcpy = 1,
  kMemset = 2,
  kDriver = 4,
  kRuntime = 5,
  kConcurrentKernel = 10,
  kMemcpyPeer = 22,
  kExternalCorrelation = 39,
};
inline constexpr int kCustomCorrelation = 3;  // CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0
inline constexpr int kDriverDomain = 1;       // CUPTI_CB_DOMAIN_DRIVER_API
inline constexpr int kRuntimeDomain = 2;      // CUPTI_CB_DOMAIN_RUNTIME_API

struct Record {
  Kind kind;
};

struct KernelRecord {
  Kind kind;
  uint8_t cache_config, shared_config;
  uint16_t registers;
  int32_t partitioned_requested, partitioned_executed;
  uint64_t start, end, completed;
  uint32_t device, context, stream;
  int32_t grid[3], block[3];
  int32_t static_shared, dynamic_shared;
  uint32_t local_per_thread, local_total;
  uint32_t correlation;
  int64_t grid_id;
  const char* name;
};
static_assert(offsetof(KernelRecord, start) == 16 && offsetof(KernelRecord, device) == 40 &&
              offsetof(KernelRecord, correlation) == 92 && offsetof(KernelRecord, name) == 104);

struct CopyRecord {
  Kind kind;
  uint8_t copy_kind, source_kind, target_kind, flags;
  uint64_t bytes, start, end;
  uint32_t device, context, stream, correlation;
};
static_assert(offsetof(CopyRecord, stream) == 40 && offsetof(CopyRecord, correlation) == 44);

struct FillRecord {
  Kind kind;
  uint32_t value;
  uint64_t bytes, start, end;
  uint32_t device, context, stream, correlation;
};
static_assert(offsetof(FillRecord, correlation) == 44);

// Aligned to 8, as all records are.
struct CorrelationRecord {
  Kind kind;
  int32_t external_kind;
  uint64_t external;
  uint32_t correlation;
};
static_assert(offsetof(CorrelationRecord, correlation) == 16);

struct CallRecord {
  Kind kind;
  uint32_t function;
  uint64_t start, end;
  uint32_t process, thread, correlation;
};
static_assert(offsetof(CallRecord, correlation) == 32);

using BufferRequested = void (*)(uint8_t** buffer, size_t* size, size_t* most_records);
using BufferCompleted = void (*)(void* context, uint32_t stream, uint8_t* buffer, size_t size,
                                 size_t valid);

}  // namespace vt::cuda::cupti
