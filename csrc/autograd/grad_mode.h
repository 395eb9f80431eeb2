// Whether operations of the calling thread are recorded.
#pragma once

namespace vt {

namespace detail {
inline thread_local bool t_grad_enabled = true;
}

inline bool grad_enabled() { return detail::t_grad_enabled; }
inline void set_grad_enabled(bool enabled) { detail::t_grad_enabled = enabled; }

class GradMode {
 public:
  explicit GradMode(bool enabled) : previous_(grad_enabled()) { set_grad_enabled(enabled); }
  ~GradMode() { set_grad_enabled(previous_); }
  GradMode(const GradMode&) = delete;

 private:
  bool previous_;
};

}  // namespace vt
