// The communicator as a Python object. Every call gives up the GIL: none of them needs Python while
// it runs.
#include "python/bind_collectives.h"

#include "base/env.h"
#include "collectives/communicator.h"
#include "collectives/stopwatch.h"
#include "python/pybind_tensor.h"

namespace vt::py {
namespace {

namespace pyb = pybind11;
using namespace collectives;
using Free = pyb::call_guard<pyb::gil_scoped_release>;
using Tensors = std::vector<Tensor>;

std::shared_ptr<Communicator> make_communicator(const fabric::Mesh& mesh,
                                                std::optional<double> timeout,
                                                const std::string& algorithm, bool always_stage,
                                                int max_blocks, int threads, size_t chunk_bytes) {
  const Options options{.timeout_seconds = timeout.value_or(env::fabric_timeout_seconds()),
                        .algorithm = parse_algorithm(algorithm),
                        .always_stage = always_stage,
                        .max_blocks = max_blocks,
                        .threads = threads,
                        .chunk_bytes = chunk_bytes};
  pyb::gil_scoped_release release;
  return std::make_shared<Communicator>(mesh, options);
}

void all_reduce(Communicator& comm, const Tensors& tensors, const std::string& op,
                const std::optional<Tensors>& out) {
  comm.all_reduce(tensors, out ? *out : tensors, parse_reduce_op(op));
}

void arrive(Communicator& comm, int rank, const Tensor& tensor, const std::string& op) {
  comm.arrive(rank, {Kind::kAllReduce, parse_reduce_op(op), 0, tensor, tensor});
}

double timed(Communicator& comm, const Tensors& tensors, const std::optional<Tensors>& out,
             const std::string& op, int iterations) {
  return time_all_reduce(comm, tensors, out ? *out : tensors, parse_reduce_op(op), iterations);
}

constexpr const char* kCommunicatorDoc =
    R"(Runs collectives over the ranks of a mesh, on one kind of device.

Calls are ordered after the work queued before on each rank's current stream and before the work
queued later. Group calls take one tensor a rank; with arrive() and wait() each rank calls for
itself, from any thread.

Args:
    mesh: the ranks.
    timeout: seconds that a rank waits for the others (default: VIBETENSOR_FABRIC_TIMEOUT).
    algorithm: "auto", or on GPUs "packets", "lines", "packets2", "one_shot", "two_shot", "push",
        "copy_engine" or "ring": only speed depends on it. "nccl" leaves the work to NVIDIA's
        library, one rank a GPU, without deadlines: a yardstick for benchmarks.
    always_stage: pass through the staging buffer even what all devices could reach.
    max_blocks: the largest grid of a rank's kernel; 0 for as many as pay.
    threads: of a block, a multiple of 32 up to 1024; 0 for as many as pay.
    chunk_bytes: what moves as one piece in pipelines; 0 for what pays.
)";

}  // namespace

void bind_collectives(pyb::module_& module) {
  pyb::class_<Communicator, std::shared_ptr<Communicator>>(module, "Communicator", kCommunicatorDoc)
      .def(pyb::init(&make_communicator), pyb::arg("mesh"), pyb::kw_only(),
           pyb::arg("timeout") = pyb::none(), pyb::arg("algorithm") = "auto",
           pyb::arg("always_stage") = false, pyb::arg("max_blocks") = 0, pyb::arg("threads") = 0,
           pyb::arg("chunk_bytes") = 0)
      .def_property_readonly("mesh", &Communicator::mesh)
      .def_property_readonly("timeout",
                             [](const Communicator& c) { return c.options().timeout_seconds; })
      .def("all_reduce", &all_reduce, pyb::arg("tensors"), pyb::arg("op") = "sum", pyb::kw_only(),
           pyb::arg("out") = pyb::none(), Free(),
           "Reduces over all ranks; in place, or from `tensors` into `out`.")
      .def(
          "broadcast",
          [](Communicator& c, const Tensors& tensors, int root) { c.broadcast(tensors, root); },
          pyb::arg("tensors"), pyb::arg("root") = 0, Free(),
          "Copies the tensor of rank `root` into all others.")
      .def("barrier", &Communicator::barrier, Free(),
           "Later work on any device waits for what is queued on all of them now.")
      .def("arrive", &arrive, pyb::arg("rank"), pyb::arg("tensor"), pyb::arg("op") = "sum", Free(),
           "One rank's part of an all_reduce in place; the last rank to come starts it.")
      .def("wait", &Communicator::wait, pyb::arg("rank"), Free(),
           "Orders the rank's later work after all it has arrived at; throws what went wrong.")
      .def("synchronize", &Communicator::synchronize, Free(),
           "Blocks until all that was started is done; throws if something failed on a device.")
      .def("reset", &Communicator::reset, Free(),
           "Makes the communicator usable again after a time-out; drops what was pending.");
  module.def("nccl_version", &nccl_version, Free());
  module.def("time_all_reduce", &timed, pyb::arg("communicator"), pyb::arg("tensors"),
             pyb::arg("out"), pyb::arg("op"), pyb::arg("iterations"), Free());
}

}  // namespace vt::py
