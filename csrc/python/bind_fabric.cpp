// Meshes, pairs of devices and symmetric tensors as Python objects.
#include "python/bind_fabric.h"

#include "device/backend.h"
#include "fabric/mesh.h"
#include "fabric/peer.h"
#include "fabric/speed.h"
#include "fabric/symmetric.h"
#include "python/pybind_tensor.h"

namespace vt::py {
namespace {

namespace pyb = pybind11;
using fabric::Mesh;
using Free = pyb::call_guard<pyb::gil_scoped_release>;

pyb::dict peer_state(Device from, Device to) {
  const fabric::PeerState* state = nullptr;
  {
    pyb::gil_scoped_release release;  // the first look at a pair tries it out
    state = &fabric::peer_state(from, to);
  }
  pyb::dict result;
  result["reported"] = state->reported;
  result["atomics"] = state->atomics;
  result["tried"] = state->tried;
  result["verified"] = state->verified;
  result["usable"] = state->usable;
  result["veto"] = state->veto;
  return result;
}

pyb::object measure_pair(Device from, Device to) {
  std::optional<fabric::PairSpeed> speed;
  {
    pyb::gil_scoped_release release;
    speed = fabric::measure_pair(from, to);
  }
  if (!speed) return pyb::none();
  pyb::dict result;
  result["copy"] = speed->copy;
  result["copy_both"] = speed->copy_both;
  result["store"] = speed->store;
  result["latency"] = speed->latency;
  return result;
}

Device rank_device(const Mesh& mesh, int rank) {
  VT_CHECK(rank >= 0 && rank < mesh.size(), kIndex, "mesh: rank ", rank,
           " is out of range, there are ", mesh.size());
  return mesh.device(rank);
}

}  // namespace

void bind_fabric(pyb::module_& module) {
  pyb::class_<Mesh, std::shared_ptr<Mesh>>(
      module, "Mesh", "An ordered list of ranks, each on a device; several ranks may share one.")
      .def(pyb::init<std::vector<Device>>(), pyb::arg("devices"))
      .def_property_readonly("devices", &Mesh::ranks, "The device of each rank.")
      .def_property_readonly("type", [](const Mesh& m) { return m.is_cuda() ? "cuda" : "cpu"; })
      .def("__len__", &Mesh::size)
      .def("__getitem__", &rank_device)
      .def(
          "__eq__", [](const Mesh& a, const Mesh& b) { return a == b; }, pyb::is_operator())
      .def("__hash__", [](const Mesh& m) { return std::hash<std::string>()(str(m)); })
      .def("__repr__", [](const Mesh& m) { return str("Mesh(", m, ")"); });
  module.def("peer_state", &peer_state, pyb::arg("from_device"), pyb::arg("to_device"));
  module.def("measure_pair", &measure_pair, pyb::arg("from_device"), pyb::arg("to_device"));
  module.def(
      "symmetric_zeros",
      [](const Mesh& mesh, const std::vector<int64_t>& sizes, DType dtype) {
        return fabric::symmetric_zeros(mesh, Dims(sizes), dtype);
      },
      pyb::arg("mesh"), pyb::arg("sizes"), pyb::arg("dtype"), Free());
}

}  // namespace vt::py
