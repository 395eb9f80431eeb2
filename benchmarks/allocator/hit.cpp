// What a hit in the caching allocator costs: nanoseconds a pair of allocate and free, of one size,
// of mixed sizes, and with other tensors alive. Over memory that is only book-keeping, and on
// cuda:0 where there is one. One JSON line a case.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "device/backend.h"
#include "device/caching_allocator.h"

namespace vt {
namespace {

class PaperMemory final : public MemorySource {
 public:
  void* take(size_t bytes) override { return std::exchange(next_, next_ + bytes); }
  void give_back(void*, size_t) noexcept override {}
  Capacity capacity() override { return {size_t{1} << 36, size_t{1} << 37}; }
  std::string other_users() override { return ""; }
  size_t page() override { return 0; }
  void* reserve(size_t) override { return nullptr; }
  bool map(void*, size_t) override { return false; }
  void unmap(void*, size_t) noexcept override {}
  void unreserve(void*, size_t) noexcept override {}
  void* make_fence(void*) noexcept override { return nullptr; }
  bool passed(void*) noexcept override { return true; }
  void wait(void*) noexcept override {}
  void drop_fence(void*) noexcept override {}
  uint64_t capture_of(void*) noexcept override { return 0; }

 private:
  char* next_ = reinterpret_cast<char*>(uintptr_t{1} << 40);
};

double now_ns() {
  return static_cast<double>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                 std::chrono::steady_clock::now().time_since_epoch())
                                 .count());
}

constexpr int kPairs = 200000, kRounds = 7;

// The median of some rounds, nanoseconds a pair.
template <class Allocate, class Free>
double pair_ns(const std::vector<size_t>& sizes, int alive, Allocate&& allocate, Free&& free) {
  std::vector<double> rounds;
  std::vector<std::pair<void*, size_t>> ring(alive + 1, {nullptr, 0});
  for (int round = 0; round <= kRounds; ++round) {
    const double start = now_ns();
    for (int i = 0; i < kPairs; ++i) {
      auto& [data, bytes] = ring[i % ring.size()];
      if (data) free(data, bytes);
      bytes = sizes[i % sizes.size()];
      data = allocate(bytes);
    }
    if (round > 0) rounds.push_back((now_ns() - start) / kPairs);  // the first warms up
  }
  for (auto& [data, bytes] : ring)
    if (data) free(data, bytes);
  std::nth_element(rounds.begin(), rounds.begin() + kRounds / 2, rounds.end());
  return rounds[kRounds / 2];
}

template <class Allocate, class Free>
void run(const char* memory, Allocate&& allocate, Free&& free) {
  std::mt19937_64 random(1);
  std::vector<size_t> mixed(997), small(997);
  for (size_t& size : mixed) size = size_t{1} << (9 + random() % 17);  // 512 B to 32 MiB
  for (size_t& size : mixed) size += random() % size;
  for (size_t& size : small) size = 1 + random() % 100000;
  struct Case {
    const char* name;
    std::vector<size_t> sizes;
    int alive;
  };
  const Case cases[] = {{"one size, 4 KiB", {4096}, 0},
                        {"one size, 48 MiB", {size_t{48} << 20}, 0},
                        {"one size, 4 KiB, 64 alive", {4096}, 64},
                        {"mixed to 100 kB, 16 alive", small, 16},
                        {"mixed to 64 MiB, 16 alive", mixed, 16},
                        {"mixed to 64 MiB, 200 alive", mixed, 200}};
  for (const Case& each : cases)
    std::printf(
        "{\"bench\": \"allocator-hit\", \"memory\": \"%s\", \"case\": \"%s\", \"ns_per_pair\": "
        "%.1f}\n",
        memory, each.name, pair_ns(each.sizes, each.alive, allocate, free));
}

}  // namespace
}  // namespace vt

int main() {
  using namespace vt;
  PaperMemory memory;
  CachingAllocator allocator({DeviceType::kCUDA, 0}, memory);
  run(
      "paper", [&](size_t bytes) { return allocator.allocate(bytes, nullptr); },
      [&](void* data, size_t) { allocator.deallocate(data); });
  if (cuda_backend().count() == 0) return 0;
  Backend& gpu = cuda_backend();
  run(
      gpu.properties(0).name.c_str(), [&](size_t bytes) { return gpu.allocate(0, bytes); },
      [&](void* data, size_t bytes) { gpu.deallocate(0, data, bytes); });
}
