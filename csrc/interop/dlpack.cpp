// Conversion between tensors and DLPack's structures.
#include "interop/dlpack.h"

#include <memory>

namespace vt::dlpack {
namespace {

DLDataType to_dl(DType dtype) {
  const auto bits = static_cast<uint8_t>(item_size(dtype) * 8);
  if (dtype == DType::kBool) return {kBool, 8, 1};
  if (dtype == DType::kU8) return {kUInt, 8, 1};
  if (dtype == DType::kBF16) return {kBfloat, 16, 1};
  return {static_cast<uint8_t>(is_float(dtype) ? kFloat : kInt), bits, 1};
}

DType from_dl(DLDataType type) {
  for (int i = 0; type.lanes == 1 && i < kDTypeCount; ++i) {
    const DLDataType candidate = to_dl(static_cast<DType>(i));
    if (candidate.code == type.code && candidate.bits == type.bits) return static_cast<DType>(i);
  }
  fail(ErrorKind::kType, "from_dlpack: no dtype here for DLPack type code ",
       static_cast<int>(type.code), " with ", static_cast<int>(type.bits), " bits and ", type.lanes,
       " lanes");
}

Device from_dl(DLDevice device) {
  if (device.device_type == kCPU || device.device_type == kCUDAHost) return {};
  VT_CHECK(device.device_type == kCUDA || device.device_type == kCUDAManaged, kRuntime,
           "from_dlpack: DLPack device type ", device.device_type,
           " is neither a CPU nor a CUDA device");
  VT_CHECK(device.device_id >= 0 && device.device_id < kMaxDevices, kRuntime,
           "from_dlpack: CUDA device ", device.device_id, " is out of range");
  const Device result{DeviceType::kCUDA, static_cast<uint8_t>(device.device_id)};
  check_device(result);
  return result;
}

// What an exported tensor keeps alive, and the arrays that the structure points at.
struct Exported {
  Tensor tensor;
  Dims sizes, strides;

  explicit Exported(const Tensor& t) : tensor(t), sizes(t.sizes()), strides(t.strides()) {}
  DLTensor describe() {
    return {tensor.data(),
            dlpack::to_dl(tensor.device()),
            tensor.dim(),
            to_dl(tensor.dtype()),
            sizes.begin(),
            strides.begin(),
            0};
  }
};

template <class Managed>
Managed* export_as(const Tensor& t) {
  auto owner = std::make_unique<Exported>(t);
  auto* managed = new Managed{};
  managed->dl_tensor = owner->describe();
  managed->manager_ctx = owner.release();
  managed->deleter = [](Managed* self) {
    delete static_cast<Exported*>(self->manager_ctx);
    delete self;
  };
  return managed;
}

template <class Managed>
struct Release {
  void operator()(Managed* managed) const {
    if (managed->deleter) managed->deleter(managed);
  }
};

template <class Managed>
Tensor import_as(Managed* given) {
  std::unique_ptr<Managed, Release<Managed>> managed(given);
  const DLTensor& d = managed->dl_tensor;
  VT_CHECK(d.ndim >= 0 && d.ndim <= kMaxDims, kRuntime, "from_dlpack: a tensor has at most ",
           kMaxDims, " dimensions, got ", d.ndim);
  const DType dtype = from_dl(d.dtype);
  const Device device = from_dl(d.device);
  const Dims sizes(std::span<const int64_t>(d.shape, static_cast<size_t>(d.ndim)));
  Dims strides = row_major_strides(sizes);
  int64_t reach = 1;
  for (int i = 0; i < d.ndim; ++i) {
    VT_CHECK(sizes[i] >= 0, kRuntime, "from_dlpack: negative size in ", sizes);
    if (d.strides && sizes[i] > 1) strides[i] = d.strides[i];
    VT_CHECK(strides[i] >= 0, kRuntime,
             "from_dlpack: negative strides are not supported; make a copy first");
    reach += (sizes[i] - 1) * strides[i];
  }
  const size_t bytes = sizes.product() == 0 ? 0 : static_cast<size_t>(reach) * item_size(dtype);
  char* data = static_cast<char*>(d.data) + d.byte_offset;
  auto storage =
      Storage::wrap(device, data, bytes, [owned = managed.get()] { Release<Managed>()(owned); });
  managed.release();
  return Tensor(
      Ref<TensorImpl>::adopt(new TensorImpl(std::move(storage), sizes, strides, 0, dtype)));
}

}  // namespace

DLDevice to_dl(Device device) {
  return device.is_cpu() ? DLDevice{kCPU, 0} : DLDevice{kCUDA, device.index};
}

DLManagedTensor* export_tensor(const Tensor& t) { return export_as<DLManagedTensor>(t); }

DLManagedTensorVersioned* export_versioned(const Tensor& t, bool is_copied) {
  auto* managed = export_as<DLManagedTensorVersioned>(t);
  managed->version = {kMajorVersion, kMinorVersion};
  managed->flags = is_copied ? kIsCopied : 0;
  return managed;
}

Tensor import_tensor(DLManagedTensor* managed) { return import_as(managed); }

Tensor import_versioned(DLManagedTensorVersioned* managed) {
  const DLPackVersion version = managed->version;
  if (version.major != kMajorVersion) {
    Release<DLManagedTensorVersioned>()(managed);
    fail(ErrorKind::kRuntime, "from_dlpack: DLPack version ", version.major, '.', version.minor,
         " is not ", kMajorVersion, ".x");
  }
  return import_as(managed);
}

}  // namespace vt::dlpack
