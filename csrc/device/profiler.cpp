// The logs of the threads.
#include "device/profiler.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "device/nvtx.h"

namespace vt::profiler {

namespace detail {
std::atomic<uint32_t> g_wanted{0};
}

namespace {

// A token is the number of the recording and, below, the place in the thread's log; the highest bit
// says that a range of NVTX was opened with it. Where nothing is recorded, that is all.
constexpr int kPlaceBits = 40;
constexpr uint64_t kPlaceMask = (uint64_t{1} << kPlaceBits) - 1;
constexpr uint64_t kEmitted = uint64_t{1} << 63;

// Of g_wanted, beside those that the header tests.
constexpr uint32_t kRecords = 1 << 30, kEmits = 1 << 31;

// The lock is the owner's but for the moment when a recording ends.
struct ThreadLog {
  std::mutex mutex;
  uint64_t recording = 0;
  uint32_t number = 0;
  std::vector<HostEvent> events;
  std::vector<size_t> open;
};

struct State {
  std::mutex mutex;  // of starting and stopping
  bool running = false, emits = false, emits_shapes = false;
  Options options;
  int64_t start = 0;
  std::atomic<uint64_t> recording{0};
  std::atomic<uint64_t> last_id{0};
  std::mutex logs_mutex;
  std::vector<std::shared_ptr<ThreadLog>> logs;
};

State& state() {
  static auto* const instance = new State;
  return *instance;
}

thread_local bool t_gone = false;  // set while thread-locals of this thread are torn down

struct OwnLog {
  std::shared_ptr<ThreadLog> log = std::make_shared<ThreadLog>();

  OwnLog() {
    static std::atomic<uint32_t> last{0};
    std::lock_guard lock(state().logs_mutex);
    log->number = last++;
    state().logs.push_back(log);
  }
  ~OwnLog() { t_gone = true; }
};

ThreadLog& own_log() {
  thread_local const OwnLog own;
  return *own.log;
}

// Starts the log afresh where its events are of an earlier recording.
void refresh(ThreadLog& log) {
  const uint64_t now = state().recording.load(std::memory_order_acquire);
  if (log.recording == now) return;
  log.recording = now;
  log.events.clear();
  log.open.clear();
}

HostEvent& add(ThreadLog& log, HostEvent::Kind kind, std::string name) {
  HostEvent& event = log.events.emplace_back();
  event.kind = kind;
  event.name = std::move(name);
  event.thread = log.number;
  event.parent = log.open.empty() ? 0 : log.events[log.open.back()].id;
  event.id = state().last_id.fetch_add(1, std::memory_order_relaxed) + 1;
  return event;
}

void publish(const State& own) {
  uint32_t wanted = 0;
  if (own.running) {
    // With the GPU alone, host events are still needed to say whose kernels they are.
    wanted |= kRecords;
    if (own.options.host || own.options.gpu) wanted |= detail::kHost;
    if (own.options.shapes) wanted |= detail::kShapes;
    if (own.options.memory) wanted |= detail::kMemory;
  }
  if (own.emits) wanted |= kEmits | detail::kHost;
  if (own.emits && own.emits_shapes) wanted |= detail::kShapes;
  detail::g_wanted.store(wanted, std::memory_order_release);
}

}  // namespace

int64_t profiler_clock() {
  using std::chrono::steady_clock;
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             steady_clock::now().time_since_epoch())
      .count();
}

void start(const Options& options) {
  State& own = state();
  std::lock_guard lock(own.mutex);
  VT_CHECK(!own.running, kRuntime,
           "profiler: another profile is running; one at a time is possible");
  if (options.gpu) start_gpu_trace();
  own.running = true;
  own.options = options;
  own.start = profiler_clock();
  own.recording.fetch_add(1, std::memory_order_release);
  publish(own);
}

Recording stop() {
  State& own = state();
  std::lock_guard lock(own.mutex);
  VT_CHECK(own.running, kRuntime, "profiler: no profile is running");
  own.running = false;
  publish(own);
  Recording result;
  result.start = own.start;
  result.end = profiler_clock();
  if (own.options.gpu) result.gpu = stop_gpu_trace();
  std::lock_guard logs_lock(own.logs_mutex);
  for (auto& log : own.logs) {
    std::lock_guard log_lock(log->mutex);
    if (log->recording != own.recording.load()) continue;
    for (size_t place : log->open) log->events[place].end = result.end;
    std::move(log->events.begin(), log->events.end(), std::back_inserter(result.host));
    log->recording = 0;
    log->events.clear();
    log->open.clear();
  }
  // Logs of threads that are gone.
  std::erase_if(own.logs, [](auto& log) { return log.use_count() == 1; });
  std::stable_sort(result.host.begin(), result.host.end(),
                   [](const HostEvent& a, const HostEvent& b) { return a.start < b.start; });
  return result;
}

uint64_t open(HostEvent::Kind kind, std::string name, std::string shapes) {
  const uint32_t wanted = detail::g_wanted.load(std::memory_order_acquire);
  if (!(wanted & detail::kHost) || t_gone) return 0;
  uint64_t emitted = 0;
  if (wanted & kEmits) {
    nvtx_push(shapes.empty() ? name.c_str() : (name + ", sizes = " + shapes).c_str());
    emitted = kEmitted;
  }
  if (!(wanted & kRecords)) return emitted;
  const Options& options = state().options;
  std::string stack = options.stack ? options.stack() : std::string();
  ThreadLog& log = own_log();
  std::lock_guard lock(log.mutex);
  refresh(log);
  const size_t place = log.events.size();
  HostEvent& event = add(log, kind, std::move(name));
  event.shapes = std::move(shapes);
  event.stack = std::move(stack);
  log.open.push_back(place);
  if (options.gpu) enter_gpu_event(event.id);
  event.start = profiler_clock();
  return emitted | log.recording << kPlaceBits | (place + 1);
}

void close(uint64_t token) {
  if (token & kEmitted) nvtx_pop();
  token &= ~kEmitted;
  if (t_gone || token == 0) return;
  const int64_t now = profiler_clock();
  const size_t place = (token & kPlaceMask) - 1;
  ThreadLog& log = own_log();
  std::lock_guard lock(log.mutex);
  // Of an earlier recording, or already closed with one around it.
  if (log.recording != token >> kPlaceBits) return;
  if (std::find(log.open.begin(), log.open.end(), place) == log.open.end()) return;
  while (true) {
    const size_t last = log.open.back();
    log.open.pop_back();
    log.events[last].end = now;
    if (state().options.gpu) leave_gpu_event();
    if (last == place) return;
  }
}

void note_memory(Device device, const void* data, int64_t bytes, int64_t allocated,
                 int64_t reserved) {
  if (t_gone) return;
  ThreadLog& log = own_log();
  std::lock_guard lock(log.mutex);
  refresh(log);
  HostEvent& event = add(log, HostEvent::Kind::kMemory, "[memory]");
  event.start = event.end = profiler_clock();
  event.device = device;
  event.address = reinterpret_cast<uintptr_t>(data);
  event.bytes = bytes;
  event.allocated = allocated;
  event.reserved = reserved;
}

}  // namespace vt::profiler

namespace vt {

void emit_ranges(bool on, bool shapes) {
  profiler::State& own = profiler::state();
  std::lock_guard lock(own.mutex);
  own.emits = on;
  own.emits_shapes = shapes;
  profiler::publish(own);
}

bool emits_ranges() {
  return profiler::detail::g_wanted.load(std::memory_order_relaxed) & profiler::kEmits;
}

}  // namespace vt
