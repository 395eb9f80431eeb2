// Splits a loop over the threads of this process. Callers whose result could depend on
// the cut (sums) cut by the problem size themselves, so that results do not depend on the number of
// threads.
#pragma once
#include <cstdint>
#include <type_traits>

#include "base/macros.h"

namespace vt {

int num_threads();
void set_num_threads(int count);

// While it lives, loops of the calling thread use at most `limit` threads.
class ThreadLimit {
 public:
  explicit ThreadLimit(int limit);
  ~ThreadLimit();

 private:
  int previous_;
};

namespace detail {
using RangeFn = void (*)(void* context, int64_t begin, int64_t end);
void run_parallel(int64_t n, int64_t grain, void* context, RangeFn fn);
int usable_threads();
}  // namespace detail

// Calls f(begin, end) on disjoint ranges that cover [0, n). A range has at least `grain` elements,
// so a short loop stays on the calling thread. f must not throw. How the ranges are cut is not
// fixed: use it where the cut cannot change the result (elementwise work, one row a step).
template <class F>
void parallel_for(int64_t n, int64_t grain, F&& f) {
  if (n <= 0) return;
  if (n <= grain || detail::usable_threads() == 1) {
    f(int64_t{0}, n);
    return;
  }
  using Body = std::remove_reference_t<F>;
  detail::run_parallel(n, grain, const_cast<std::remove_const_t<Body>*>(&f),
                       [](void* context, int64_t begin, int64_t end) {
                         (*static_cast<Body*>(context))(begin, end);
                       });
}

}  // namespace vt
