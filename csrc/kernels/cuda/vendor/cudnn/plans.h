// Plans of cuDNN's graph API: built once for whatever they depend on, then kept.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>

#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include "device/cuda/device.h"

namespace vt::cuda::cudnn {

namespace fe = cudnn_frontend;
using TensorHandle = std::shared_ptr<fe::graph::Tensor_attributes>;

struct Plan {
  fe::graph::Graph graph;
  int64_t workspace = 0;  // bytes
  std::string refusal;    // why cuDNN cannot do it, or ""
};

// What a caller may rule out of the engines that cuDNN proposes.
struct Limits {
  std::vector<fe::NumericalNote_t> without;
  int64_t workspace = INT64_MAX;  // bytes
};

// Picks the first engine that cuDNN's heuristics propose within the limits, and builds it.
inline void finish(Plan& plan, cudnnHandle_t handle, const std::vector<fe::HeurMode_t>& modes,
                   const Limits& limits = {}) {
  const auto failed = [&](fe::error_t error) {
    if (error.is_bad()) plan.refusal = error.get_message();
    return error.is_bad();
  };
  fe::graph::Graph& graph = plan.graph;
  if (failed(graph.validate()) || failed(graph.build_operation_graph(handle)) ||
      failed(graph.create_execution_plans(modes)))
    return;
  graph.deselect_numeric_notes(limits.without).deselect_workspace_greater_than(limits.workspace);
  if (failed(graph.check_support(handle)) ||
      failed(graph.build_plans(handle, fe::BuildPlanPolicy_t::HEURISTICS_CHOICE)))
    return;
  failed(graph.get_workspace_size(plan.workspace));
}

// Compares and hashes a key as memory: all of its fields must be of 8 bytes.
template <class Key>
struct SameKey {
  static_assert(std::is_trivially_copyable_v<Key> && alignof(Key) == 8);
  bool operator()(const Key& a, const Key& b) const { return std::memcmp(&a, &b, sizeof a) == 0; }
};
template <class Key>
struct KeyHash {
  size_t operator()(const Key& key) const {
    int64_t words[sizeof(Key) / 8];
    std::memcpy(words, &key, sizeof key);
    uint64_t hash = 0;
    for (int64_t word : words)
      hash = (std::rotl(hash, 23) ^ static_cast<uint64_t>(word)) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 32;
  }
};

// The plan of a key on a device. The caller holds the device's handle, which guards the device's
// plans too.
template <class Key>
Plan& plan_for(int index, const Key& key, cudnnHandle_t handle,
               std::unique_ptr<Plan> (*build)(const Key& key, cudnnHandle_t handle)) {
  static auto* const plans =
      new std::unordered_map<Key, std::unique_ptr<Plan>, KeyHash<Key>, SameKey<Key>>[kMaxDevices];
  auto& known = plans[index];
  if (auto found = known.find(key); VT_LIKELY(found != known.end())) return *found->second;
  return *known.emplace(key, build(key, handle)).first->second;
}

}  // namespace vt::cuda::cudnn
