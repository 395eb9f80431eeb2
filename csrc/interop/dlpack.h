// DLPack 1.x (https://dmlc.github.io/dlpack): the structures by which array libraries share memory,
// declared here as the standard fixes them, and their conversion from and to tensors. Streams are
// the caller's business.
#pragma once
#include <cstdint>

#include "tensor/tensor.h"

namespace vt::dlpack {

inline constexpr uint32_t kMajorVersion = 1;
inline constexpr uint32_t kMinorVersion = 0;
inline constexpr uint64_t kReadOnly = 1;  // flag
inline constexpr uint64_t kIsCopied = 2;  // flag

enum DeviceKind : int32_t { kCPU = 1, kCUDA = 2, kCUDAHost = 3, kCUDAManaged = 13 };
enum TypeCode : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kBool = 6 };

struct DLDevice {
  int32_t device_type;
  int32_t device_id;
};
struct DLDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  // null: row-major
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor* self);
};
struct DLPackVersion {
  uint32_t major;
  uint32_t minor;
};
struct DLManagedTensorVersioned {
  DLPackVersion version;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned* self);
  uint64_t flags;
  DLTensor dl_tensor;
};

// The device as DLPack counts; every cpu:i is its one CPU.
DLDevice to_dl(Device device);

// Shares the memory of `t`; the receiver calls the deleter.
DLManagedTensor* export_tensor(const Tensor& t);
DLManagedTensorVersioned* export_versioned(const Tensor& t, bool is_copied);

// Takes over the managed tensor: its deleter runs when the last user of the memory is gone, or at
// once on an error.
Tensor import_tensor(DLManagedTensor* managed);
Tensor import_versioned(DLManagedTensorVersioned* managed);

}  // namespace vt::dlpack
