// Measurements between CPU devices, and what they share with those between GPUs.
#include "fabric/speed.h"

#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <utility>

#include "base/error.h"
#include "device/backend.h"
#include "fabric/peer.h"
#include "fabric/symmetric.h"

namespace vt::fabric {
namespace {

constexpr size_t kBytes = 64 << 20;  // a copy: more than the caches of most CPUs
constexpr int kRepeats = 4;
constexpr size_t kLineBytes = 128;
constexpr uint32_t kHops = 200'000;

double seconds_of(auto&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

PairSpeed measure_cpus(Device from, Device to) {
  // Slots of their own even for a device and itself: half of each is read, half written.
  const auto memory = SymmetricMemory::create(Mesh({from, to}), 2 * kBytes);
  auto copy = [&](int rank) {
    for (int i = 0; i < kRepeats; ++i)
      std::memcpy(memory->slot<char>(1 - rank, kBytes), memory->slot(rank), kBytes);
  };
  copy(0);  // touches all pages
  copy(1);
  PairSpeed speed;
  speed.copy = kRepeats * kBytes / seconds_of([&] { copy(0); });
  speed.copy_both = 2 * kRepeats * kBytes / seconds_of([&] {
                      std::jthread other(copy, 1);
                      copy(0);
                    });

  const auto cycle = random_cycle(kBytes / kLineBytes);
  for (uint32_t i = 0; i < cycle.size(); ++i) *memory->slot<uint32_t>(1, i * kLineBytes) = cycle[i];
  uint32_t at = 0;
  const double passed = seconds_of([&] {
    for (uint32_t i = 0; i < kHops; ++i)
      at = *static_cast<volatile uint32_t*>(memory->slot<uint32_t>(1, at * kLineBytes));
  });
  speed.latency = passed / kHops;
  return speed;
}

}  // namespace

std::vector<uint32_t> random_cycle(uint32_t lines) {
  VT_CHECK(lines > 0, kValue, "random_cycle: expected at least one line");
  // Sattolo's shuffle: always a single cycle, from a fixed seed.
  std::vector<uint32_t> next(lines);
  std::iota(next.begin(), next.end(), 0u);
  std::mt19937 random(1);
  for (uint32_t i = lines - 1; i > 0; --i) std::swap(next[i], next[random() % i]);
  return next;
}

std::optional<PairSpeed> measure_pair(Device from, Device to) {
  if (!peer_state(from, to).usable && from != to) return std::nullopt;
  if (from.is_cpu() != to.is_cpu()) return std::nullopt;
  return from.is_cuda() ? cuda::measure_pair(from.index, to.index) : measure_cpus(from, to);
}

}  // namespace vt::fabric
