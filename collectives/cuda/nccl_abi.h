// The few declarations of NCCL that are used here, written down so that a build needs no NCCL
// headers. Values and signatures are the library's binary interface, stable within libnccl.so.2.
#pragma once
#include <cuda_runtime_api.h>

namespace vt::collectives::nccl {

struct Communicator;  // opaque
using Comm = Communicator*;

using Result = int;
inline constexpr Result kSuccess = 0;

enum DataType : int {
  kInt8 = 0,
  kUint8 = 1,
  kInt32 = 2,
  kInt64 = 4,
  kFloat16 = 6,
  kFloat32 = 7,
  kFloat64 = 8,
  kBfloat16 = 9,
};

enum RedOp : int { kSum = 0, kProd = 1, kMax = 2, kMin = 3, kAvg = 4 };

using GetVersionFn = Result(int* version);
using GetErrorStringFn = const char*(Result result);
using CommInitAllFn = Result(Comm* comms, int devices, const int* indices);
using CommDestroyFn = Result(Comm comm);
using GroupFn = Result();  // ncclGroupStart, ncclGroupEnd
using AllReduceFn = Result(const void* in, void* out, size_t count, DataType type, RedOp op,
                           Comm comm, cudaStream_t stream);
using BroadcastFn = Result(const void* in, void* out, size_t count, DataType type, int root,
                           Comm comm, cudaStream_t stream);
using ReduceFn = Result(const void* in, void* out, size_t count, DataType type, RedOp op, int root,
                        Comm comm, cudaStream_t stream);
using AllGatherFn = Result(const void* in, void* out, size_t count, DataType type, Comm comm,
                           cudaStream_t stream);
using SendFn = Result(const void* in, size_t count, DataType type, int peer, Comm comm,
                      cudaStream_t stream);
using ReceiveFn = Result(void* out, size_t count, DataType type, int peer, Comm comm,
                         cudaStream_t stream);

}  // namespace vt::collectives::nccl
