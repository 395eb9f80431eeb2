// A device's memory that is only book-keeping: what the caching allocator took, gave back, waited
// for.
#pragma once
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "device/caching_allocator.h"

namespace vt {

inline constexpr size_t kMiB = size_t{1} << 20;

class FakeMemory : public MemorySource {
 public:
  explicit FakeMemory(size_t capacity = 1024 * kMiB) : total(capacity) {}

  void* take(size_t bytes) override {
    if (used + bytes > total) return nullptr;
    used += bytes;
    ++takes;
    char* data = next;
    next += bytes + 2 * kMiB;  // segments never touch
    segments[data] = bytes;
    return data;
  }
  void give_back(void* data, size_t bytes) noexcept override {
    EXPECT_EQ(segments.at(static_cast<char*>(data)), bytes);
    segments.erase(static_cast<char*>(data));
    used -= bytes;
  }
  Capacity capacity() override { return {total - used, total}; }
  std::string other_users() override { return users; }

  size_t page() override { return kPage; }
  void* reserve(size_t bytes) override {
    char* data = next;
    next += bytes + kPage;
    ranges[data] = bytes;
    return data;
  }
  bool map(void* data, size_t bytes) override {
    EXPECT_EQ(bytes % kPage, 0u);
    if (used + bytes > total) return false;
    used += bytes;
    for (size_t at = 0; at < bytes; at += kPage)
      EXPECT_TRUE(pages.insert(static_cast<char*>(data) + at).second);
    return true;
  }
  void unmap(void* data, size_t bytes) noexcept override {
    EXPECT_EQ(bytes % kPage, 0u);
    used -= bytes;
    for (size_t at = 0; at < bytes; at += kPage)
      EXPECT_EQ(pages.erase(static_cast<char*>(data) + at), 1u);
  }
  void unreserve(void* data, size_t bytes) noexcept override {
    EXPECT_EQ(ranges.at(static_cast<char*>(data)), bytes);
    ranges.erase(static_cast<char*>(data));
  }

  struct Fence {
    bool done = false;
  };
  void* make_fence(void*) noexcept override { return *fences.insert(new Fence).first; }
  bool passed(void* fence) noexcept override {
    return all_passed || static_cast<Fence*>(fence)->done;
  }
  void wait(void* fence) noexcept override {
    ++waits;
    static_cast<Fence*>(fence)->done = true;
  }
  void drop_fence(void* fence) noexcept override {
    EXPECT_EQ(fences.erase(static_cast<Fence*>(fence)), 1u);
    delete static_cast<Fence*>(fence);
  }

  uint64_t capture_of(void* stream) noexcept override {
    const auto found = captures.find(stream);
    return found == captures.end() ? 0 : found->second;
  }

  static constexpr size_t kPage = 20 * kMiB;
  size_t total, used = 0;
  int takes = 0, waits = 0;
  bool all_passed = false;
  char* next = reinterpret_cast<char*>(uintptr_t{1} << 40);
  std::map<char*, size_t> segments;
  std::set<Fence*> fences;
  std::map<void*, uint64_t> captures;
  std::map<char*, size_t> ranges;
  std::set<char*> pages;
  std::string users;
};

inline constexpr Device kDevice{DeviceType::kCUDA, 0};
inline void* const kDefault = nullptr;
inline void* const kOther = reinterpret_cast<void*>(uintptr_t{0x1000});

}  // namespace vt
