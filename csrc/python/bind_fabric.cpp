// Meshes, pairs of devices, symmetric and unified tensors, and what the fabric did, as Python
// objects.
#include "python/bind_fabric.h"

#include "device/backend.h"
#include "fabric/access.h"
#include "fabric/events.h"
#include "fabric/mesh.h"
#include "fabric/peer.h"
#include "fabric/speed.h"
#include "fabric/symmetric.h"
#include "fabric/unified.h"
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
  result["store_both"] = speed->store_both;
  result["latency"] = speed->latency;
  return result;
}

Device rank_device(const Mesh& mesh, int rank) {
  VT_CHECK(rank >= 0 && rank < mesh.size(), kIndex, "mesh: rank ", rank,
           " is out of range, there are ", mesh.size());
  return mesh.device(rank);
}

fabric::Mode parse_mode(const std::string& text) {
  if (text == "strict") return fabric::Mode::kStrict;
  if (text == "best_effort") return fabric::Mode::kBestEffort;
  VT_CHECK(text == "dry_run", kValue, "fabric.enable: unknown mode '", text,
           "'; expected strict, best_effort or dry_run");
  return fabric::Mode::kDryRun;
}

pyb::list enable(const std::string& mode, bool peer_access) {
  std::vector<fabric::PairAccess> pairs;
  {
    pyb::gil_scoped_release release;
    pairs = fabric::enable(parse_mode(mode), peer_access);
  }
  pyb::list result;
  for (const auto& pair : pairs)
    result.append(pyb::make_tuple(pair.from, pair.to, pair.direct, pair.reason));
  return result;
}

fabric::Backing parse_backing(const std::string& text) {
  if (text == "auto") return fabric::Backing::kAuto;
  if (text == "mapped") return fabric::Backing::kMapped;
  if (text == "peer") return fabric::Backing::kPeer;
  VT_CHECK(text == "host", kValue, "symmetric_zeros: unknown backing '", text,
           "'; expected auto, mapped, peer or host");
  return fabric::Backing::kHost;
}

fabric::Advice parse_advice(const std::string& text) {
  constexpr std::pair<const char*, fabric::Advice> kAdvice[] = {
      {"preferred", fabric::Advice::kPreferred},
      {"not_preferred", fabric::Advice::kNotPreferred},
      {"accessed_by", fabric::Advice::kAccessedBy},
      {"not_accessed_by", fabric::Advice::kNotAccessedBy},
      {"read_mostly", fabric::Advice::kReadMostly},
      {"not_read_mostly", fabric::Advice::kNotReadMostly}};
  for (const auto& [name, advice] : kAdvice)
    if (text == name) return advice;
  fail(ErrorKind::kValue, "fabric.advise: unknown advice '", text, "'");
}

pyb::dict residency(const Tensor& t) {
  fabric::Residency found;
  {
    pyb::gil_scoped_release release;
    found = fabric::residency(t);
  }
  pyb::dict result;
  result["preferred"] = found.preferred;
  result["prefetched"] = found.prefetched;
  result["read_mostly"] = found.read_mostly;
  result["accessed_by"] = found.accessed_by;
  return result;
}

void bind_unified(pyb::module_& module) {
  module.def(
      "unified_empty",
      [](const std::vector<int64_t>& sizes, DType dtype, Device device) {
        return fabric::unified_empty(Dims(sizes), dtype, device);
      },
      pyb::arg("sizes"), pyb::arg("dtype"), pyb::arg("device"), Free());
  module.def("is_unified", &fabric::is_unified, pyb::arg("tensor"));
  module.def(
      "unified_advise",
      [](const Tensor& t, const std::string& advice, Device place) {
        fabric::advise(t, parse_advice(advice), place);
      },
      pyb::arg("tensor"), pyb::arg("advice"), pyb::arg("place"), Free());
  module.def("unified_prefetch", &fabric::prefetch, pyb::arg("tensor"), pyb::arg("place"), Free());
  module.def("unified_residency", &residency, pyb::arg("tensor"));
  module.def("set_unified_limit", &fabric::set_unified_limit, pyb::arg("bytes"));
  module.def(
      "unified_use",
      [](Device device) {
        const fabric::UnifiedUse use = fabric::unified_use(device);
        return pyb::make_tuple(use.held, use.cap, use.free);
      },
      pyb::arg("device"));
}

pyb::list counters() {
  pyb::list result;
  for (const fabric::Counter& each : fabric::counters())
    result.append(
        pyb::make_tuple(fabric::name(each.kind), each.what, each.how, each.calls, each.bytes));
  return result;
}

pyb::list events() {
  pyb::list result;
  for (const fabric::Event& e : fabric::events())
    result.append(pyb::make_tuple(e.number, e.start_ns, e.end_ns, fabric::name(e.kind), e.device,
                                  e.thread, e.bytes, e.what, e.how));
  return result;
}

// Nanoseconds that one note costs the calling thread, on average.
double time_note(int repeats) {
  const int64_t start = fabric::event_clock();
  for (int i = 0; i < repeats; ++i)
    fabric::note(fabric::EventKind::kCollective, "time_note", {}, 0, "", start);
  return static_cast<double>(fabric::event_clock() - start) / repeats;
}

void bind_events(pyb::module_& module) {
  module.def("fabric_counters", &counters);
  module.def("fabric_events", &events);
  module.def("fabric_events_noted", &fabric::events_noted);
  module.def("reset_fabric_events", &fabric::reset_events);
  module.def("time_fabric_note", &time_note, pyb::arg("repeats"), Free());
  module.attr("fabric_event_ring") = fabric::kEventRing;
}

void bind_access(pyb::module_& module) {
  module.def("enable_fabric", &enable, pyb::arg("mode"), pyb::arg("peer_access"));
  module.def("disable_fabric", &fabric::disable, Free());
  module.def("fabric_mode", [] { return fabric::name(fabric::mode()); });
  module.def(
      "operand_route",
      [](const Tensor& t, Device reader) {
        fabric::Route found;
        {
          pyb::gil_scoped_release release;
          found = fabric::route(t, reader);
        }
        return pyb::make_tuple(fabric::name(found.way), found.reason);
      },
      pyb::arg("tensor"), pyb::arg("reader"));
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
      [](const Mesh& mesh, const std::vector<int64_t>& sizes, DType dtype,
         const std::string& backing) {
        return fabric::symmetric_zeros(mesh, Dims(sizes), dtype, parse_backing(backing));
      },
      pyb::arg("mesh"), pyb::arg("sizes"), pyb::arg("dtype"), pyb::arg("backing") = "auto", Free());
  bind_access(module);
  bind_unified(module);
  bind_events(module);
}

}  // namespace vt::py
