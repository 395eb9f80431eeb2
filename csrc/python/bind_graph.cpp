// Graphs and their memory pools as Python objects. The Python side decides when to capture and what
// the host does at a replay.
#include "python/bind_graph.h"

#include "autograd/autocast.h"
#include "autograd/leaf_log.h"
#include "device/graph.h"
#include "kernels/optim_constants.h"
#include "ops/ops.h"
#include "python/gil.h"
#include "python/graph_inputs.h"
#include "python/pybind_tensor.h"

namespace pyb = pybind11;

namespace vt::py {
namespace {

// Gives its reference to the pool back when it goes; graphs hold their own.
class PoolObject {
 public:
  explicit PoolObject(Device device) : device_(device) {
    id_ = backend(device).create_memory_pool(device.index);
  }
  ~PoolObject() { backend(device_).release_memory_pool(device_.index, id_); }
  PoolObject(const PoolObject&) = delete;
  PoolObject& operator=(const PoolObject&) = delete;

  Device device() const { return device_; }
  uint64_t id() const { return id_; }

 private:
  Device device_;
  uint64_t id_;
};

void begin(Graph& graph, const std::vector<std::shared_ptr<PoolObject>>& pools, bool whole) {
  VT_CHECK(!pools.empty() && pools[0]->device() == graph.device(), kRuntime,
           "CUDAGraph.capture_begin: the graph is of ", graph.device(), ", the first pool is not");
  clear_autocast_cache();  // a graph that read those casts would not make them anew
  std::vector<CaptureLane> lanes;
  for (const auto& pool : pools)
    lanes.push_back({backend(pool->device()).current_stream(pool->device().index), pool->id()});
  graph.begin(lanes, whole ? GraphForm::kWhole : GraphForm::kPerDevice);
}

template <void (Graph::*kMethod)()>
void without_gil(Graph& graph) {
  ReleaseGil release(ReleaseGil::kAlways);
  (graph.*kMethod)();
}

void end(Graph& graph) {
  clear_autocast_cache();  // those of the capture are written by replays only
  without_gil<&Graph::end>(graph);
}

// Where the memory of some tensors was.
class PlacedTensors {
 public:
  explicit PlacedTensors(std::vector<Tensor> tensors) : tensors_(std::move(tensors)) {
    for (const Tensor& t : tensors_) data_.push_back(t.data());
  }
  bool moved() const {
    for (size_t i = 0; i < tensors_.size(); ++i)
      if (tensors_[i].data() != data_[i]) return true;
    return false;
  }

 private:
  std::vector<Tensor> tensors_;
  std::vector<const void*> data_;
};

// The constants of the step that comes next, of the width that the parameters have, or its options.
template <template <class> class Constants, class Options>
void set_constants(Graph& graph, int number, const Options& config) {
  Capture& values = graph.values();
  const auto set = [&](const auto& constants) {
    values.set_value(number, &constants, sizeof constants);
  };
  static_assert(sizeof(Options) != sizeof(Constants<double>) &&
                sizeof(Options) != sizeof(Constants<float>));
  if (values.value_bytes(number) == sizeof config) set(config);
  else if (values.value_bytes(number) == sizeof(Constants<double>)) set(Constants<double>(config));
  else set(Constants<float>(config));
}

}  // namespace

void bind_graph(pyb::module_& module) {
  pyb::class_<PoolObject, std::shared_ptr<PoolObject>>(
      module, "MemoryPool", "Memory of one GPU that only graphs captured with it use.")
      .def(pyb::init<Device>(), pyb::arg("device"))
      .def_property_readonly("device", &PoolObject::device)
      .def_property_readonly("id", &PoolObject::id, "Its number, from 1.");

  pyb::class_<Graph>(module, "Graph", "Work of GPUs, captured once and replayed with one call.")
      .def(pyb::init([](Device device) { return backend(device).make_graph(device.index); }),
           pyb::arg("device"))
      .def(
          "begin", &begin, pyb::arg("pools"), pyb::arg("whole") = true,
          "Captures the current streams of the pools' devices from now on: as one graph, or as one "
          "graph a device.")
      .def("end", &end, "Ends the capture; the graph is ready for replays.")
      .def(
          "abandon",
          [](Graph& graph) {
            clear_autocast_cache();
            graph.abandon();
          },
          "Ends a capture that failed and drops what it has.")
      .def("follow", &without_gil<&Graph::follow>,
           "Has what is queued from now on wait for the replay before; throws what went wrong "
           "there.")
      .def("replay", &without_gil<&Graph::replay>, "Queues everything on the current streams.")
      .def("reset", &without_gil<&Graph::reset>, "Drops the graph.")
      .def("keep_source", &Graph::keep_source, "Keeps what write_dot needs of the next capture.")
      .def("write_dot", &Graph::write_dot, pyb::arg("path"),
           "Writes nodes and edges as Graphviz reads them.")
      .def(
          "set_adamw",
          [](Graph& graph, int number, double lr, double beta1, double beta2, double eps,
             double weight_decay, int64_t step) {
            set_constants<AdamWConstants>(graph, number,
                                          AdamWOptions{lr, beta1, beta2, eps, weight_decay, step});
          },
          pyb::arg("number"), pyb::arg("lr"), pyb::arg("beta1"), pyb::arg("beta2"), pyb::arg("eps"),
          pyb::arg("weight_decay"), pyb::arg("step"),
          "What the captured adamw_ with this number of live value computes at the next replay.")
      .def(
          "set_sgd",
          [](Graph& graph, int number, double lr, double momentum, double dampening,
             double weight_decay, bool nesterov, int64_t step) {
            set_constants<SgdConstants>(
                graph, number, SgdOptions{lr, momentum, dampening, weight_decay, step, nesterov});
          },
          pyb::arg("number"), pyb::arg("lr"), pyb::arg("momentum"), pyb::arg("dampening"),
          pyb::arg("weight_decay"), pyb::arg("nesterov"), pyb::arg("step"), "The same for sgd_.")
      .def_property_readonly(
          "value_count", [](Graph& graph) { return graph.values().value_count(); },
          "How many live values there are; the next one has this number.")
      .def_property_readonly("device", &Graph::device)
      .def_property_readonly("devices", &Graph::devices, "Those of the last capture.")
      .def_property_readonly("capturing", &Graph::capturing)
      .def_property_readonly("ready", &Graph::ready)
      .def_property_readonly("node_count", &Graph::node_count,
                             "How many kernels, copies and the like it has.");

  pyb::class_<LeafLog>(module, "LeafLog", "The gradients that a captured step expects and leaves.")
      .def(pyb::init([](Graph& graph) { return std::make_unique<LeafLog>(graph.values()); }),
           pyb::arg("graph"), "Notes from now on what the capture does to gradients.")
      .def("stop", &LeafLog::stop, "Notes no more; the gradients of now are those that it leaves.")
      .def("undo", &LeafLog::undo, "Stops, and puts back the gradients from before the capture.")
      .def("entry_is_now", &LeafLog::entry_is_now,
           "Whether the step would start from the gradients that there are now.")
      .def("restore_exit", &LeafLog::restore_exit, "Sets the gradients that the step leaves.");

  pyb::class_<PlacedTensors>(module, "PlacedTensors", "Tensors, and where their memory was.")
      .def(pyb::init<std::vector<Tensor>>(), pyb::arg("tensors"))
      .def("moved", &PlacedTensors::moved, "Whether one looks at other memory now.");

  pyb::class_<GraphInputs>(module, "GraphInputs", "Where a graph reads the arguments of a call.")
      .def(pyb::init<std::vector<Tensor>>(), pyb::arg("places"))
      .def("copy", &GraphInputs::copy, pyb::arg("given"),
           "Copies each given tensor to its place; those on the CPU are sent while the GPU still "
           "does what was queued before.");
  module.def("copy_inputs", &copy_inputs, pyb::arg("places"), pyb::arg("given"),
             "Copies each given tensor to its place, without waiting where memory is pinned.");
  module.def(
      "is_capturing", [](Device device) { return active_capture(device) != nullptr; },
      pyb::arg("device"), "Whether this thread's work on the device is being captured.");
}

}  // namespace vt::py
