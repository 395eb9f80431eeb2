// What the user may choose about how kernels compute.
#pragma once
#include <atomic>
#include <cstdint>

namespace vt {

// How products of float32 matrices are computed on a GPU.
enum class Float32Products : uint8_t {
  kIeee,    // each product and sum in float32: fused multiply-adds
  kBF16x6,  // on tensor cores, each number as three bfloat16: all 24 bits. Note [Three pieces]
  kTF32,    // on tensor cores, numbers rounded to 10 bits of fraction
};
inline constexpr Float32Products kDefaultFloat32Products = Float32Products::kBF16x6;

struct KernelSettings {
  std::atomic<Float32Products> float32_products{kDefaultFloat32Products};
  // May convolutions use cuDNN? Else they are products of matrices.
  std::atomic<bool> cudnn_enabled{true};
  // May its float32 convolutions round numbers as kTF32 does, whatever products do?
  std::atomic<bool> cudnn_tf32{false};
  // Must kernels of cuDNN give the same bits in every run?
  std::atomic<bool> cudnn_deterministic{true};
  // May products with GELU take the kernels made here, where they are built and faster? Else
  // cuBLASLt's.
  std::atomic<bool> own_gelu_products{true};
};

KernelSettings& kernel_settings();

// Were kernels for products with GELU built here? They need CUTLASS's headers.
bool has_gelu_products();

}  // namespace vt
