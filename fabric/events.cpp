// Counters in a table of fixed size, events in a ring of slots that are claimed one by one.
#include "fabric/events.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <map>
#include <tuple>

namespace vt::fabric {
namespace {

constexpr size_t kCells = 512;  // kinds of work told apart: far fewer exist

// One kind of work, known by the addresses of its literals. Two literals of one spelling may be two
// cells; counters() adds them up.
struct Cell {
  std::atomic<const char*> what{nullptr};  // null: nobody's. Written once, after the others
  std::atomic<bool> claimed{false};
  const char* how = nullptr;
  EventKind kind = EventKind::kCollective;
  std::atomic<uint64_t> calls{0}, bytes{0};
};

// A slot belongs to one writer while `state` is odd. 2n + 2: it holds event n.
struct Slot {
  std::atomic<uint64_t> state{0};
  std::atomic<int64_t> start{0}, end{0};
  std::atomic<uint64_t> bytes{0}, packed{0};  // packed: thread, kind, device
  std::atomic<const char*> what{nullptr}, how{nullptr};
};

struct Ledger {
  std::array<Cell, kCells> cells;
  std::array<Slot, kEventRing> ring;
  std::atomic<uint64_t> next{0};   // number of the next event
  std::atomic<uint64_t> first{0};  // events before it were reset
  std::atomic<uint32_t> threads{0};
};

Ledger& ledger() {
  static auto* const instance = new Ledger;  // noted to by destructors at the end of the process
  return *instance;
}

uint32_t this_thread() {
  thread_local const uint32_t number = ledger().threads.fetch_add(1, std::memory_order_relaxed);
  return number;
}

size_t hash_of(EventKind kind, const char* what, const char* how) {
  const auto a = reinterpret_cast<uintptr_t>(what), b = reinterpret_cast<uintptr_t>(how);
  return (a * 0x9e3779b97f4a7c15u ^ b * 0xc2b2ae3d27d4eb4fu ^ static_cast<size_t>(kind)) >> 7;
}

// Null where the table is full: such work is in the ring only.
Cell* cell_of(EventKind kind, const char* what, const char* how) {
  const size_t at = hash_of(kind, what, how);
  for (size_t i = 0; i < kCells; ++i) {
    Cell& cell = ledger().cells[(at + i) % kCells];
    const char* const found = cell.what.load(std::memory_order_acquire);
    if (found) {
      if (found == what && cell.how == how && cell.kind == kind) return &cell;
      continue;
    }
    // Somebody who claims a cell at this moment may be about to count the same work: his cell and
    // the next one then share it.
    if (cell.claimed.exchange(true, std::memory_order_acquire)) continue;
    cell.how = how;
    cell.kind = kind;
    cell.what.store(what, std::memory_order_release);
    return &cell;
  }
  return nullptr;
}

uint64_t pack(uint32_t thread, EventKind kind, Device device) {
  return uint64_t{thread} << 32 | static_cast<uint64_t>(kind) << 16 |
         static_cast<uint64_t>(device.type) << 8 | device.index;
}

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;

}  // namespace

const char* name(EventKind kind) {
  constexpr const char* kNames[] = {"collective", "copy",    "peer_read", "fence",
                                    "arena",      "managed", "access"};
  return kNames[static_cast<int>(kind)];
}

int64_t event_clock() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void note(EventKind kind, const char* what, Device device, size_t bytes, const char* how,
          int64_t start_ns) {
  Ledger& all = ledger();
  if (Cell* cell = cell_of(kind, what, how)) {
    cell->calls.fetch_add(1, kRelaxed);
    cell->bytes.fetch_add(bytes, kRelaxed);
  }
  const int64_t now = event_clock();
  const uint64_t number = all.next.fetch_add(1, kRelaxed);
  Slot& slot = all.ring[number % kEventRing];
  uint64_t state = slot.state.load(kRelaxed);
  // A whole round of the ring passed while another thread was writing here: its event stays.
  if (state & 1 || !slot.state.compare_exchange_strong(state, 2 * number + 1,
                                                       std::memory_order_acquire, kRelaxed))
    return;
  // Whoever reads one of these new values also sees that the slot is being written.
  slot.start.store(start_ns ? start_ns : now, kRelease);
  slot.end.store(now, kRelease);
  slot.bytes.store(bytes, kRelease);
  slot.packed.store(pack(this_thread(), kind, device), kRelease);
  slot.what.store(what, kRelease);
  slot.how.store(how, kRelease);
  slot.state.store(2 * number + 2, kRelease);
}

std::vector<Counter> counters() {
  std::map<std::tuple<EventKind, std::string, std::string>, std::pair<uint64_t, uint64_t>> sums;
  for (Cell& cell : ledger().cells) {
    const char* const what = cell.what.load(std::memory_order_acquire);
    const uint64_t calls = cell.calls.load(kRelaxed);
    if (!what || calls == 0) continue;
    auto& sum = sums[{cell.kind, what, cell.how}];
    sum.first += calls;
    sum.second += cell.bytes.load(kRelaxed);
  }
  std::vector<Counter> result;
  for (const auto& [key, sum] : sums)
    result.push_back({std::get<0>(key), std::get<1>(key), std::get<2>(key), sum.first, sum.second});
  return result;
}

std::vector<Event> events() {
  Ledger& all = ledger();
  const uint64_t end = all.next.load(std::memory_order_acquire);
  const uint64_t oldest = end > kEventRing ? end - kEventRing : 0;
  std::vector<Event> result;
  for (uint64_t n = std::max(oldest, all.first.load(kRelaxed)); n < end; ++n) {
    Slot& slot = all.ring[n % kEventRing];
    const uint64_t wanted = 2 * n + 2;
    if (slot.state.load(std::memory_order_acquire) != wanted) continue;
    const uint64_t packed = slot.packed.load(kAcquire);
    const Event event{.number = n,
                      .start_ns = slot.start.load(kAcquire),
                      .end_ns = slot.end.load(kAcquire),
                      .kind = static_cast<EventKind>(packed >> 16 & 0xff),
                      .device = {static_cast<DeviceType>(packed >> 8 & 0xff),
                                 static_cast<uint8_t>(packed & 0xff)},
                      .thread = static_cast<uint32_t>(packed >> 32),
                      .bytes = slot.bytes.load(kAcquire),
                      .what = slot.what.load(kAcquire),
                      .how = slot.how.load(kAcquire)};
    if (slot.state.load(kRelaxed) == wanted) result.push_back(event);
  }
  return result;
}

uint64_t events_noted() { return ledger().next.load(kRelaxed) - ledger().first.load(kRelaxed); }

void reset_events() {
  Ledger& all = ledger();
  for (Cell& cell : all.cells) {
    cell.calls.store(0, kRelaxed);
    cell.bytes.store(0, kRelaxed);
  }
  all.first.store(all.next.load(kRelaxed), kRelaxed);
}

}  // namespace vt::fabric
