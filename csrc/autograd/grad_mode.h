// Whether operations of the calling thread are recorded.
#pragma once

namespace vt {

namespace detail {
inline thread_local bool t_grad_enabled = true;
inline thread_local bool t_graph_kept = true;
}  // namespace detail

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

// Will what the node that is being applied saved be needed again? If not, its gradient may be made
// of that memory.
inline bool graph_kept() { return detail::t_graph_kept; }

class GraphKept {
 public:
  explicit GraphKept(bool kept) : previous_(detail::t_graph_kept) { detail::t_graph_kept = kept; }
  ~GraphKept() { detail::t_graph_kept = previous_; }
  GraphKept(const GraphKept&) = delete;

 private:
  bool previous_;
};

}  // namespace vt
