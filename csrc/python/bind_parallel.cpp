// The gradient reducer as a Python object. backward gives up the GIL while the devices work.
#include "python/bind_parallel.h"

#include "collectives/reducer.h"
#include "python/pybind_tensor.h"

namespace vt::py {
namespace {

namespace pyb = pybind11;
using namespace collectives;
using Free = pyb::call_guard<pyb::gil_scoped_release>;

// (grad, params, offsets, numbers)
using ArenaParts = std::tuple<Tensor, std::vector<Tensor>, std::vector<int64_t>, std::vector<int>>;

std::unique_ptr<GradientReducer> make_reducer(const std::vector<Device>& ranks,
                                              std::vector<std::vector<ArenaParts>> parts,
                                              int64_t first_bucket_bytes, int64_t bucket_bytes,
                                              int max_blocks) {
  VT_CHECK(first_bucket_bytes > 0 && bucket_bytes > 0, kValue,
           "reducer: bucket sizes must be positive, got ", first_bucket_bytes, " and ",
           bucket_bytes, " bytes");
  VT_CHECK(max_blocks >= 0, kValue, "reducer: the number of blocks must not be negative, got ",
           max_blocks);
  std::vector<std::vector<GradientArena>> arenas;
  for (auto& of_rank : parts) {
    auto& list = arenas.emplace_back();
    for (auto& [grad, params, offsets, numbers] : of_rank)
      list.push_back({grad, std::move(params), std::move(offsets), std::move(numbers)});
  }
  pyb::gil_scoped_release release;
  return std::make_unique<GradientReducer>(fabric::Mesh(ranks), std::move(arenas),
                                           BucketSizes{first_bucket_bytes, bucket_bytes},
                                           max_blocks);
}

constexpr const char* kReducerDoc =
    R"(Runs the backward passes of all replicas at once and sums their gradients while they run.

Args:
    devices: the device of each rank.
    arenas: for each rank a list of (grad, params, offsets, numbers): a flat gradient, the
        parameters bound to places in it, where each place starts, and the number of each parameter
        in the model.
    first_bucket_bytes, bucket_bytes: how much is reduced as one.
    max_blocks: how much of a GPU a reduction may take from backward; 0 for as little as pays.

Raises:
    RuntimeError: the ranks' arenas are not laid out alike.
)";

}  // namespace

void bind_parallel(pyb::module_& module) {
  pyb::class_<GradientReducer>(module, "GradientReducer", kReducerDoc)
      .def(pyb::init(&make_reducer), pyb::arg("devices"), pyb::arg("arenas"), pyb::kw_only(),
           pyb::arg("first_bucket_bytes"), pyb::arg("bucket_bytes"), pyb::arg("max_blocks") = 0)
      .def(
          "backward",
          [](GradientReducer& reducer, const std::vector<Tensor>& losses,
             const std::vector<double>& weights,
             bool reduce) { reducer.backward(losses, weights, reduce); },
          pyb::arg("losses"), pyb::arg("weights"), pyb::arg("reduce") = true, Free(),
          "Adds weights[r] times the gradient of losses[r] for each rank r; then sums over ranks.")
      .def("clear", &GradientReducer::clear, "Drops all gradients without touching memory.")
      .def_property_readonly(
          "early_buckets", &GradientReducer::early_buckets,
          "How many buckets of the last reduced pass were under way before backward ended.")
      .def_property_readonly(
          "buckets",
          [](const GradientReducer& reducer) {
            std::vector<std::tuple<int, int64_t, int64_t, std::vector<int>>> result;
            for (const Bucket& b : reducer.buckets())
              result.emplace_back(b.arena, b.begin, b.end, b.parameters);
            return result;
          },
          "(arena, begin, end, parameters) of each, in the order in which they are reduced.");
}

}  // namespace vt::py
