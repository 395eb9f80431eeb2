// Graphs and their memory pools as Python objects. The Python side decides when to capture and what
// the host does at a replay.
#include "python/bind_graph.h"

#include "autograd/leaf_log.h"
#include "device/graph.h"
#include "python/gil.h"
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

void begin(Graph& graph, const PoolObject& pool) {
  VT_CHECK(pool.device() == graph.device(), kRuntime, "CUDAGraph.capture_begin: the pool is of ",
           pool.device(), ", the graph of ", graph.device());
  const Device device = graph.device();
  graph.begin(backend(device).current_stream(device.index), pool.id());
}

template <void (Graph::*kMethod)()>
void without_gil(Graph& graph) {
  ReleaseGil release(ReleaseGil::kAlways);
  (graph.*kMethod)();
}

}  // namespace

void bind_graph(pyb::module_& module) {
  pyb::class_<PoolObject, std::shared_ptr<PoolObject>>(
      module, "MemoryPool", "Memory of one GPU that only graphs captured with it use.")
      .def(pyb::init<Device>(), pyb::arg("device"))
      .def_property_readonly("device", &PoolObject::device)
      .def_property_readonly("id", &PoolObject::id, "Its number, from 1.");

  pyb::class_<Graph>(module, "Graph", "Work of one GPU, captured once and replayed with one call.")
      .def(pyb::init([](Device device) { return backend(device).make_graph(device.index); }),
           pyb::arg("device"))
      .def("begin", &begin, pyb::arg("pool"), "Captures the current stream from now on.")
      .def("end", &without_gil<&Graph::end>, "Ends the capture; the graph is ready for replays.")
      .def("abandon", &Graph::abandon, "Ends a capture that failed and drops what it has.")
      .def("replay", &without_gil<&Graph::replay>, "Queues everything on the current stream.")
      .def("reset", &without_gil<&Graph::reset>, "Drops the graph.")
      .def_property_readonly("device", &Graph::device)
      .def_property_readonly("capturing", &Graph::capturing)
      .def_property_readonly("ready", &Graph::ready)
      .def_property_readonly("node_count", &Graph::node_count,
                             "How many kernels, copies and the like it has.");

  pyb::class_<LeafLog>(module, "LeafLog",
                       "The gradients that a captured step expects and leaves.")
      .def(pyb::init([](Graph& graph) { return std::make_unique<LeafLog>(graph.values()); }),
           pyb::arg("graph"), "Notes from now on what the capture does to gradients.")
      .def("stop", &LeafLog::stop, "Notes no more; the gradients of now are those that it leaves.")
      .def("undo", &LeafLog::undo, "Stops, and puts back the gradients from before the capture.")
      .def("entry_is_now", &LeafLog::entry_is_now,
           "Whether the step would start from the gradients that there are now.")
      .def("restore_exit", &LeafLog::restore_exit, "Sets the gradients that the step leaves.");

  module.def(
      "is_capturing", [](Device device) { return active_capture(device) != nullptr; },
      pyb::arg("device"), "Whether this thread's work on the device is being captured.");
}

}  // namespace vt::py
