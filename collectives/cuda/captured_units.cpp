// Edges of captured units.
#include "collectives/cuda/captured_units.h"

#include <algorithm>

#include "device/cuda/graph.h"

namespace vt::collectives::gpu {
namespace {

constexpr size_t kMostTouched = 1024;  // ranges of memory

template <class T>
bool contains(const std::vector<T>& all, T one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

template <class Function>
void for_each_tensor(const Unit& unit, Function f) {
  for (int r = 0; r < unit.ranks(); ++r)
    for (const Tensor* t : {&unit.calls[r].input, &unit.calls[r].output})
      if (t->defined() && t->bytes() > 0) f(r, *t);
}

}  // namespace

CapturedUnits::CapturedUnits(const fabric::Mesh& mesh) : ranks_(mesh.size()) {
  for (int r = 0; r < mesh.size(); ++r)
    ranks_[r].done = cuda::create_event(mesh.device(r).index, false);
}

CapturedUnits::~CapturedUnits() {
  for (Rank& rank : ranks_) cuda::destroy_event(rank.done);
}

void CapturedUnits::begin(const Unit& unit, std::span<const Stream> streams) {
  if (cuda::capture_id(streams[0]) == 0) {  // the first unit of a capture
    unit_ends_.clear();
    touched_.clear();
    crowded_ = false;
  }
  const bool is_apart = apart(unit);
  for (size_t r = 0; r < streams.size(); ++r)
    wait(static_cast<int>(r), streams[r], *static_cast<cuda::Event*>(unit.marks[r]), is_apart);
  touch(unit);
}

void CapturedUnits::wait(int rank, Stream stream, const cuda::Event& mark, bool is_apart) {
  Rank& own = ranks_[rank];
  Nodes before, after;
  const bool joined = cuda::capture_id(stream) != 0;
  bool known = !joined || cuda::capture_dependencies(stream, before);
  cuda::wait_event(stream, mark);
  own.capture = cuda::capture_id(stream);
  known = cuda::capture_dependencies(stream, after) && known;
  own.begun = after;
  if (!joined || !known) return;
  const auto needless = [&](cudaGraphNode_t node) {
    const auto found = unit_ends_.find(node);
    if (found == unit_ends_.end() || contains(before, node)) return false;
    return found->second == rank || is_apart;  // its own earlier units come before in any case
  };
  Nodes needed = after;
  std::erase_if(needed, needless);
  if (needed.size() == after.size()) return;
  cuda::set_capture_dependencies(stream, needed);
  own.begun = needed;
}

// Has no rank's memory been in the hands of another rank of its device?
bool CapturedUnits::apart(const Unit& unit) const {
  if (crowded_) return false;
  bool found = true;
  for_each_tensor(unit, [&](int rank, const Tensor& t) {
    const char* const begin = t.data<char>();
    for (const Touched& each : touched_)
      if (each.rank != rank && each.device == t.device() && each.begin < begin + t.bytes() &&
          begin < each.end)
        found = false;
  });
  return found;
}

void CapturedUnits::touch(const Unit& unit) {
  for_each_tensor(unit, [&](int rank, const Tensor& t) {
    const char* const begin = t.data<char>();
    const char* const end = begin + t.bytes();
    for (const Touched& each : touched_)
      if (each.rank == rank && each.begin <= begin && end <= each.end) return;
    if (touched_.size() < kMostTouched) touched_.push_back({rank, t.device(), begin, end});
    else crowded_ = true;
  });
}

void CapturedUnits::end(std::span<const Stream> streams) {
  for (size_t r = 0; r < streams.size(); ++r) {
    Rank& own = ranks_[r];
    cuda::record_event(*own.done, streams[r]);
    if (!cuda::capture_dependencies(streams[r], own.tail)) own.tail.clear();
    for (cudaGraphNode_t node : own.tail)
      if (!contains(own.begun, node)) unit_ends_[node] = static_cast<int>(r);
  }
}

void CapturedUnits::join(int rank, Stream stream) const {
  const Rank& own = ranks_[rank];
  if (own.capture != cuda::capture_id(stream)) return;  // it has no units there
  cuda::wait_event(stream, *own.done);
  // Its earlier units come before the last: as they are not waited for, what waits for nothing else
  // can be told from what waits for work of the caller.
  Nodes nodes;
  if (!cuda::capture_dependencies(stream, nodes)) return;
  const size_t all = nodes.size();
  std::erase_if(nodes, [&](cudaGraphNode_t node) {
    const auto found = unit_ends_.find(node);
    return found != unit_ends_.end() && found->second == rank && !contains(own.tail, node);
  });
  if (nodes.size() != all) cuda::set_capture_dependencies(stream, nodes);
}

}  // namespace vt::collectives::gpu
