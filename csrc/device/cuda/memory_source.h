// CUDA as the caching allocator's source of memory.
#pragma once
#include "device/memory_source.h"

namespace vt::cuda {

class CudaMemory final : public MemorySource {
 public:
  explicit CudaMemory(int index) : index_(index) {}

  void* take(size_t bytes) override;
  void give_back(void* data, size_t bytes) noexcept override;
  Capacity capacity() override;
  std::string other_users() override;

  size_t page() override;
  void* reserve(size_t bytes) override;
  bool map(void* data, size_t bytes) override;
  void unmap(void* data, size_t bytes) noexcept override;
  void unreserve(void* data, size_t bytes) noexcept override;

  void* make_fence(void* stream) noexcept override;
  bool passed(void* fence) noexcept override;
  void wait(void* fence) noexcept override;
  void drop_fence(void* fence) noexcept override;

  uint64_t capture_of(void* stream) noexcept override;

 private:
  int index_;
};

}  // namespace vt::cuda
