// A small thread pool for loops. One loop at a time uses the pool; a second caller that finds it
// busy runs its loop on its own thread, which is right when several device workers compute at once.
#include "device/cpu/parallel.h"

#include <immintrin.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/env.h"
#include "base/error.h"

namespace vt {
namespace {

std::atomic<int>& configured_threads() {
  static std::atomic<int> count{env::num_threads()};
  return count;
}

thread_local int t_limit = 1 << 20;
thread_local bool t_inside_loop = false;

// Helpers look for the next loop this many times before they sleep; about 20 us, the distance
// between two operations.
constexpr int kSpins = 2000;

class Pool {
 public:
  bool try_run(int64_t n, int64_t grain, void* context, detail::RangeFn fn, int threads) {
    std::unique_lock busy(busy_, std::try_to_lock);
    if (!busy.owns_lock()) return false;
    start_helpers(threads - 1);
    // Four pieces a thread even out different speeds without making the pieces small.
    const int64_t pieces = std::min<int64_t>((n + grain - 1) / grain, int64_t{threads} * 4);
    n_ = n;
    piece_ = (n + pieces - 1) / pieces;
    context_ = context;
    fn_ = fn;
    next_.store(0, std::memory_order_relaxed);
    {
      std::lock_guard lock(mutex_);
      open_places_ = static_cast<int>(std::min<int64_t>(threads - 1, pieces - 1));
      generation_.fetch_add(1, std::memory_order_release);
    }
    if (sleepers_.load(std::memory_order_acquire) > 0) wake_.notify_all();
    work();
    {
      // A helper that is still on its way finds no place: nobody waits for a thread that the system
      // has not woken yet.
      std::lock_guard lock(mutex_);
      open_places_ = 0;
    }
    while (active_.load(std::memory_order_acquire) != 0) _mm_pause();
    return true;
  }

 private:
  void start_helpers(int count) {
    for (; helpers_ < count; ++helpers_) std::thread([this] { helper(); }).detach();
  }

  void work() {
    t_inside_loop = true;
    for (;;) {
      const int64_t begin = next_.fetch_add(piece_, std::memory_order_relaxed);
      if (begin >= n_) break;
      fn_(context_, begin, std::min(begin + piece_, n_));
    }
    t_inside_loop = false;
  }

  void helper() {
    uint64_t seen = 0;
    for (;;) {
      for (int i = 0; i < kSpins && generation_.load(std::memory_order_acquire) == seen; ++i)
        _mm_pause();
      {
        std::unique_lock lock(mutex_);
        if (generation_.load(std::memory_order_relaxed) == seen) {
          sleepers_.fetch_add(1);
          wake_.wait(lock, [&] { return generation_.load(std::memory_order_relaxed) != seen; });
          sleepers_.fetch_sub(1);
        }
        seen = generation_.load(std::memory_order_relaxed);
        if (open_places_ == 0) continue;
        --open_places_;
        active_.fetch_add(1, std::memory_order_relaxed);
      }
      work();
      active_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::mutex busy_;  // held for the length of one loop
  int64_t n_ = 0, piece_ = 1;
  void* context_ = nullptr;
  detail::RangeFn fn_ = nullptr;
  std::atomic<int64_t> next_{0};
  std::atomic<int> active_{0};  // helpers inside work()

  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> sleepers_{0};
  int open_places_ = 0;  // helpers that may still join the loop; under mutex_
  int helpers_ = 0;
};

// Never destroyed: its threads outlive static destruction. A forked child has none of them and
// starts with a new pool.
Pool& pool() {
  static Pool* instance = [] {
    pthread_atfork(nullptr, nullptr, [] { instance = new Pool; });
    return new Pool;
  }();
  return *instance;
}

}  // namespace

int num_threads() { return configured_threads().load(std::memory_order_relaxed); }

void set_num_threads(int count) {
  VT_CHECK(count >= 1 && count <= 1024, kRuntime,
           "set_num_threads: expected a positive number, got ", count);
  configured_threads().store(count);
}

ThreadLimit::ThreadLimit(int limit) : previous_(t_limit) { t_limit = limit; }
ThreadLimit::~ThreadLimit() { t_limit = previous_; }

namespace detail {

int usable_threads() { return t_inside_loop ? 1 : std::min(num_threads(), t_limit); }

void run_parallel(int64_t n, int64_t grain, void* context, RangeFn fn) {
  const int threads = usable_threads();
  if (threads <= 1 || !pool().try_run(n, grain, context, fn, threads)) fn(context, 0, n);
}

}  // namespace detail
}  // namespace vt
