// Where a caching allocator's memory comes from and how it waits for streams. Behind this interface
// the allocator's logic is tested without a GPU.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace vt {

class MemorySource {
 public:
  virtual ~MemorySource() = default;

  virtual void* take(size_t bytes) = 0;  // null: there is not so much left
  virtual void give_back(void* data,
                         size_t bytes) noexcept = 0;  // waits for work that may still use it
  struct Capacity {
    size_t free, total;
  };
  virtual Capacity capacity() = 0;
  // Who else holds memory of the device, as text for an error: "process 17 (5.00 GiB)". May be "".
  virtual std::string other_users() = 0;

  // Ranges of addresses that get memory in pages. 0: this source has none.
  virtual size_t page() = 0;
  virtual void* reserve(size_t bytes) = 0;                    // throws where it cannot
  virtual bool map(void* data, size_t bytes) = 0;             // false: there is not so much left
  virtual void unmap(void* data, size_t bytes) noexcept = 0;  // waits, as give_back
  virtual void unreserve(void* data, size_t bytes) noexcept = 0;

  // A fence is passed once the work that was queued on the stream when it was made is done. Null
  // counts as passed.
  virtual void* make_fence(void* stream) noexcept = 0;
  virtual bool passed(void* fence) noexcept = 0;
  virtual void wait(void* fence) noexcept = 0;
  virtual void drop_fence(void* fence) noexcept = 0;

  // Which graph capture the stream is part of, 0 for none. Streams that joined a capture through
  // events have its number too.
  virtual uint64_t capture_of(void* stream) noexcept = 0;
};

}  // namespace vt
