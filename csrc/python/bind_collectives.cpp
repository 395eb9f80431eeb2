// The communicator as a Python object. Every call gives up the GIL: none of them needs Python while
// it runs.
#include "python/bind_collectives.h"

#include "base/env.h"
#include "collectives/communicator.h"
#include "collectives/registry.h"
#include "collectives/stopwatch.h"
#include "collectives/tuning.h"
#include "python/pybind_tensor.h"

namespace vt::py {
namespace {

namespace pyb = pybind11;
using namespace collectives;
using Free = pyb::call_guard<pyb::gil_scoped_release>;
using Tensors = std::vector<Tensor>;
using Owner = std::shared_ptr<Communicator>;

// Note [Waiting without the GIL]
// Threads of a communicator drop tensors, some of whose memory belongs to Python and asks for the
// GIL. Nobody who holds it may wait for them, or for a lock that they hold.
void delete_without_gil(Communicator* comm) {
  if (!PyGILState_Check()) {
    delete comm;
    return;
  }
  pyb::gil_scoped_release release;
  delete comm;
}

Owner make_communicator(const fabric::Mesh& mesh, std::optional<double> timeout,
                        const std::string& algorithm, bool always_stage, int max_blocks,
                        int threads, size_t chunk_bytes, bool early_launch) {
  const Options options{.timeout_seconds = timeout.value_or(env::fabric_timeout_seconds()),
                        .algorithm = parse_algorithm(algorithm),
                        .always_stage = always_stage,
                        .max_blocks = max_blocks,
                        .threads = threads,
                        .chunk_bytes = chunk_bytes,
                        .early_launch = early_launch};
  pyb::gil_scoped_release release;
  return Owner(new Communicator(mesh, options), &delete_without_gil);
}

template <class T>
T field(const pyb::dict& row, const char* name) {
  try {
    return row[name].cast<T>();
  } catch (const pyb::cast_error&) {
    fail(ErrorKind::kValue, "set_measured: a row has ", pyb::repr(row[name]).cast<std::string>(),
         " as ", name);
  }
}

Measured measured_row(const pyb::dict& row) {
  Measured result;
  result.gpu = field<std::string>(row, "gpu");
  result.ranks = field<int>(row, "ranks");
  result.devices = field<int>(row, "devices");
  result.kind = parse_kind(field<std::string>(row, "kind"));
  result.item_bytes = field<int>(row, "item_bytes");
  result.place = field<std::string>(row, "place");
  result.up_to = field<size_t>(row, "up_to");
  result.algorithm = parse_algorithm(field<std::string>(row, "algorithm"));
  result.blocks = field<int>(row, "blocks");
  result.threads = field<int>(row, "threads");
  result.chunk_bytes = field<size_t>(row, "chunk_bytes");
  return result;
}

void set_measured_rows(const std::vector<pyb::dict>& rows) {
  std::vector<Measured> table;
  for (const pyb::dict& row : rows) table.push_back(measured_row(row));
  set_measured(std::move(table));
}

// A call that was started, with what keeps it alive and what it will have made.
struct PyWork {
  Owner owner;
  Tensors result;
  std::optional<Work> work;  // the first one to go: it uses the others

  ~PyWork() {  // by Python, which holds the GIL
    pyb::gil_scoped_release release;
    work.reset();
    owner.reset();
  }
};

// The shape of what a kind makes of a tensor of this shape, along the first dimension.
Dims shrunk(const char* op, const Tensor& t, int ranks) {
  VT_CHECK(t.dim() > 0 && t.size(0) % ranks == 0, kValue, op, ": the first dimension of ", t,
           " is not a multiple of ", ranks, ", the number of ranks; pass `out`, or pad it");
  Dims sizes = t.sizes();
  sizes[0] /= ranks;
  return sizes;
}

Dims grown(const Tensor& t, int ranks) {
  if (t.dim() == 0) return Dims{ranks};
  Dims sizes = t.sizes();
  sizes[0] *= ranks;
  return sizes;
}

// What the call makes when it is given no place for it.
Tensors outputs_for(const Communicator& comm, const Request& request, const Tensors& inputs,
                    std::span<const int> to) {
  const size_t n = comm.mesh().size();
  const Traits& kind = traits(request.kind);
  if (inputs.size() != n) return Tensors(inputs.size());  // the call says what is wrong
  const auto made = [&](const Tensor& like, size_t rank) {
    if (!like.defined()) return Tensor();
    const std::string op(kind.name);
    const int ranks = static_cast<int>(n);
    Dims sizes = like.sizes();
    if (kind.input != kind.output)
      sizes = kind.output == Parts::kOne ? shrunk(op.c_str(), like, ranks) : grown(like, ranks);
    return empty(sizes, like.dtype(), comm.mesh().device(static_cast<int>(rank)));
  };
  if (request.kind == Kind::kAllReduce || request.kind == Kind::kBroadcast) return inputs;
  Tensors outputs(n);
  const bool has_root = request.root >= 0 && request.root < static_cast<int>(n);
  if (kind.rooted() && !has_root) return outputs;
  for (size_t r = 0; r < n; ++r) {
    if (request.kind == Kind::kSendRecv) {
      if (r < to.size() && to[r] >= 0 && to[r] < static_cast<int>(n))
        outputs[to[r]] = made(inputs[r], to[r]);
    } else if (kind.output_owner == collectives::Owner::kAll) {
      outputs[r] = made(inputs[kind.rooted() ? request.root : r], r);
    } else if (static_cast<int>(r) == request.root) {
      outputs[r] = request.kind == Kind::kReduce ? inputs[r] : made(inputs[r], r);
    }
  }
  return outputs;
}

// Runs or starts a group call. Returns what it made, or the handle.
pyb::object group_call(const Owner& comm, const Request& request, const Tensors& inputs,
                       const std::optional<Tensors>& out, bool async_op,
                       const std::vector<int>& to = {}) {
  std::unique_ptr<PyWork> handle;
  Tensors made;
  {
    pyb::gil_scoped_release release;
    if (!out) made = outputs_for(*comm, request, inputs, to);
    const Tensors& outputs = out ? *out : made;
    if (async_op)
      handle.reset(new PyWork{comm, outputs, comm->start(request, inputs, outputs, to)});
    else comm->run(request, inputs, outputs, to);
  }
  if (handle) return pyb::cast(std::move(handle));
  return out ? pyb::cast(*out) : pyb::cast(made);
}

// all_reduce and broadcast in place: nothing is made and nothing returned.
pyb::object in_place_call(const Owner& comm, const Request& request, const Tensors& tensors,
                          const std::optional<Tensors>& out, bool async_op) {
  if (async_op) return group_call(comm, request, tensors, out ? *out : tensors, true);
  {
    pyb::gil_scoped_release release;
    comm->run(request, tensors, out ? *out : tensors);
  }
  return pyb::none();
}

void bind_group_calls(pyb::class_<Communicator, Owner>& type) {
  const auto op = pyb::arg("op") = "sum";
  const auto out = pyb::arg("out") = pyb::none();
  const auto async_op = pyb::arg("async_op") = false;
  using Out = std::optional<Tensors>;
  type.def(
      "all_reduce",
      [](const Owner& c, const Tensors& tensors, const std::string& op, const Out& out,
         bool async_op) {
        return in_place_call(c, {Kind::kAllReduce, parse_reduce_op(op)}, tensors, out, async_op);
      },
      pyb::arg("tensors"), op, pyb::kw_only(), out, async_op,
      "Reduces over all ranks; in place, or from `tensors` into `out`.");
  type.def(
      "broadcast",
      [](const Owner& c, const Tensors& tensors, int root, bool async_op) {
        return in_place_call(c, {Kind::kBroadcast, ReduceOp::kSum, root}, tensors, {}, async_op);
      },
      pyb::arg("tensors"), pyb::arg("root") = 0, pyb::kw_only(), async_op,
      "Copies the tensor of rank `root` into all others.");
  type.def(
      "barrier",
      [](const Owner& c, bool async_op) {
        return in_place_call(c, {Kind::kBarrier}, {}, {}, async_op);
      },
      pyb::kw_only(), async_op,
      "Later work on any device waits for what is queued on all of them now.");
  type.def(
      "reduce",
      [](const Owner& c, const Tensors& tensors, int root, const std::string& op,
         const std::optional<Tensor>& out, bool async_op) {
        Out outputs;
        if (out && root >= 0 && root < c->mesh().size())
          outputs.emplace(c->mesh().size())[root] = *out;
        return group_call(c, {Kind::kReduce, parse_reduce_op(op), root}, tensors, outputs,
                          async_op);
      },
      pyb::arg("tensors"), pyb::arg("root") = 0, op, pyb::kw_only(), out, async_op,
      "Reduces over all ranks into the tensor of rank `root`, or into `out`.");
  type.def(
      "reduce_scatter",
      [](const Owner& c, const Tensors& tensors, const std::string& op, const Out& out,
         bool async_op) {
        return group_call(c, {Kind::kReduceScatter, parse_reduce_op(op)}, tensors, out, async_op);
      },
      pyb::arg("tensors"), op, pyb::kw_only(), out, async_op,
      "Reduces over all ranks; rank r gets the r-th part.");
  const auto moving = [&](const char* name, Kind kind, const char* doc) {
    type.def(
        name,
        [kind](const Owner& c, const Tensors& tensors, const Out& out, bool async_op) {
          return group_call(c, {kind}, tensors, out, async_op);
        },
        pyb::arg("tensors"), pyb::kw_only(), out, async_op, doc);
  };
  moving("all_gather", Kind::kAllGather, "Every rank gets the tensors of all, one behind another.");
  moving("all_to_all", Kind::kAllToAll, "Rank r gets the r-th part of every rank's tensor.");
  type.def(
      "gather",
      [](const Owner& c, const Tensors& tensors, int root, const std::optional<Tensor>& out,
         bool async_op) {
        Out outputs;
        if (out && root >= 0 && root < c->mesh().size())
          outputs.emplace(c->mesh().size())[root] = *out;
        return group_call(c, {Kind::kGather, ReduceOp::kSum, root}, tensors, outputs, async_op);
      },
      pyb::arg("tensors"), pyb::arg("root") = 0, pyb::kw_only(), out, async_op,
      "Rank `root` gets the tensors of all, one behind another.");
  type.def(
      "scatter",
      [](const Owner& c, const Tensor& tensor, int root, const Out& out, bool async_op) {
        Tensors inputs(c->mesh().size());
        if (root >= 0 && root < c->mesh().size()) inputs[root] = tensor;
        return group_call(c, {Kind::kScatter, ReduceOp::kSum, root}, inputs, out, async_op);
      },
      pyb::arg("tensor"), pyb::arg("root") = 0, pyb::kw_only(), out, async_op,
      "Rank r gets the r-th part of the tensor of rank `root`.");
  type.def(
      "sendrecv",
      [](const Owner& c, const Tensors& tensors, const std::vector<std::optional<int>>& to,
         const Out& out, bool async_op) {
        std::vector<int> ranks;
        for (const auto& rank : to) ranks.push_back(rank.value_or(kNoRank));
        return group_call(c, {Kind::kSendRecv}, tensors, out, async_op, ranks);
      },
      pyb::arg("tensors"), pyb::arg("to"), pyb::kw_only(), out, async_op,
      "Rank r sends its tensor to rank `to[r]`, or to nobody where that is None.");
}

void bind_rank_calls(pyb::class_<Communicator, Owner>& type) {
  type.def(
      "arrive",
      [](Communicator& c, int rank, const Tensor& tensor, const std::string& op,
         const std::string& kind, const Tensor& out, int root, std::optional<int> to,
         std::optional<int> source) {
        Call call{parse_kind(kind), parse_reduce_op(op), root, tensor,
                  out.defined() ? out : tensor};
        call.to = to.value_or(kNoRank);
        call.from = source.value_or(kNoRank);
        c.arrive(rank, std::move(call));
      },
      pyb::arg("rank"), pyb::arg("tensor") = pyb::none(), pyb::arg("op") = "sum", pyb::kw_only(),
      pyb::arg("kind") = "all_reduce", pyb::arg("out") = pyb::none(), pyb::arg("root") = 0,
      pyb::arg("to") = pyb::none(), pyb::arg("source") = pyb::none(), Free(),
      "One rank's part of a collective, an all_reduce in place unless `kind` says otherwise. The "
      "last rank to come starts it. For sendrecv, `to` and `source` are the ranks at the other "
      "ends.");
  type.def("wait", &Communicator::wait, pyb::arg("rank"), Free(),
           "Orders the rank's later work after all it has arrived at; throws what went wrong.");
  type.def("send", &Communicator::send, pyb::arg("rank"), pyb::arg("tensor"), pyb::arg("to"),
           Free(),
           "Rank `rank` sends its tensor to rank `to`, which calls recv; no other rank has "
           "a part in it.");
  type.def("recv", &Communicator::receive, pyb::arg("rank"), pyb::arg("tensor"), pyb::arg("source"),
           Free(), "Rank `rank` receives into its tensor what rank `source` sends.");
}

double timed(Communicator& comm, const Tensors& tensors, const std::optional<Tensors>& out,
             const std::string& op, int iterations) {
  return time_all_reduce(comm, tensors, out ? *out : tensors, parse_reduce_op(op), iterations);
}

constexpr const char* kCommunicatorDoc =
    R"(Runs collectives over the ranks of a mesh, on one kind of device.

Calls are ordered after the work queued before on each rank's current stream and before the work
queued later. Group calls take one tensor a rank, as the functions of vibetensor.collectives, which
say more; with arrive() and wait() each rank calls for itself, from any thread.

Args:
    mesh: the ranks.
    timeout: seconds that a rank waits for the others (default: VIBETENSOR_FABRIC_TIMEOUT).
    algorithm: "auto", or on GPUs "packets", "lines", "packets2", "one_shot", "two_shot", "push",
        "copy_engine" or "ring": only speed depends on it. "nccl" leaves the work to
        NVIDIA's library, one rank a GPU, without deadlines: a yardstick for benchmarks.
    always_stage: pass through the staging buffer even what all devices could reach.
    max_blocks: the most blocks that work for a rank; 0 for as many as pay, which are few for large
        calls that run beside other work, as with async_op. 32 and fewer ask for room beside such
        work: large calls go by copy engines then, and add up in many blocks of one warp.
    threads: of a block, a multiple of 32 up to 1024; 0 for as many as pay.
    chunk_bytes: what moves as one piece in pipelines; 0 for what pays.
    early_launch: short kernels come to the device while the one before them still runs, and wait
        there for its end.
)";

}  // namespace

void bind_collectives(pyb::module_& module) {
  set_interrupt_check([] {
    pyb::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw pyb::error_already_set();
  });
  pyb::class_<PyWork>(module, "Work", "A group call that was started with async_op=True.")
      .def(
          "is_completed", [](PyWork& w) { return w.work->is_completed(); }, Free(),
          "Is it done, on all ranks? A call that failed counts as done.")
      .def(
          "wait", [](PyWork& w) { w.work->wait(); }, Free(),
          "Orders later work on all devices after it (blocks on CPU devices); throws what went "
          "wrong.")
      .def(
          "synchronize", [](PyWork& w) { w.work->synchronize(); }, Free(),
          "wait(), and blocks until the devices are done too.")
      .def(
          "result", [](const PyWork& w) { return w.result; },
          "The outputs, one a rank, None for ranks that get nothing. Call wait() before using "
          "them.");
  pyb::class_<Communicator, Owner> type(module, "Communicator", kCommunicatorDoc);
  type.def(pyb::init(&make_communicator), pyb::arg("mesh"), pyb::kw_only(),
           pyb::arg("timeout") = pyb::none(), pyb::arg("algorithm") = "auto",
           pyb::arg("always_stage") = false, pyb::arg("max_blocks") = 0, pyb::arg("threads") = 0,
           pyb::arg("chunk_bytes") = 0, pyb::arg("early_launch") = true)
      .def_property_readonly("mesh", &Communicator::mesh)
      .def_property_readonly("timeout",
                             [](const Communicator& c) { return c.options().timeout_seconds; })
      .def(
          "subgroup",
          [](Communicator& c, const std::vector<int>& ranks) { return c.subgroup(ranks); },
          pyb::arg("ranks"), Free(),
          "The communicator of some of the ranks, numbered anew in the order given; kept.")
      .def("synchronize", &Communicator::synchronize, Free(),
           "Blocks until all that was started is done; FabricTimeoutError if something failed on a "
           "device, once what is queued has ended, or has had another deadline for it.")
      .def("abort", &Communicator::abort, Free(),
           "From any thread: every wait ends with a FabricError, kernels that wait for a peer "
           "leave, and every call throws until reset().")
      .def("reset", &Communicator::reset, Free(),
           "Makes the communicator usable again after a time-out or an abort; drops what was "
           "pending. Waits for what is queued; FabricTimeoutError where that does not end within "
           "the longer of `timeout` and VIBETENSOR_FABRIC_TIMEOUT.");
  bind_group_calls(type);
  bind_rank_calls(type);
  module.def("communicator", &communicator, pyb::arg("mesh"), Free());
  module.def(
      "communicator_of", [](const Tensors& tensors) { return communicator_of(tensors); },
      pyb::arg("tensors"), Free());
  module.def(
      "communicator_of",
      [](const Tensor& alone) -> std::shared_ptr<Communicator> {
        fail(ErrorKind::kType,
             "collective: expected a list with one tensor a rank, got one tensor, ", alone,
             "; this process drives all ranks, as in all_reduce([of_rank_0, of_rank_1])");
      },
      pyb::arg("tensors"));
  module.def(
      "time_collective",
      [](Communicator& comm, const std::string& kind, const Tensors& inputs, const Tensors& outputs,
         const std::string& op, int root, const std::vector<int>& to, int iterations) {
        return time_calls(comm, {parse_kind(kind), parse_reduce_op(op), root}, inputs, outputs, to,
                          iterations);
      },
      pyb::arg("communicator"), pyb::arg("kind"), pyb::arg("tensors"), pyb::arg("out"),
      pyb::arg("op") = "sum", pyb::arg("root") = 0, pyb::arg("to") = std::vector<int>{},
      pyb::arg("iterations") = 1, Free());
  module.def("set_measured", &set_measured_rows, pyb::arg("rows"));
  module.def("cache_folder", &env::cache_folder);
  pyb::list algorithms;
  for (const std::string_view each : algorithm_names()) algorithms.append(pyb::cast(each));
  module.attr("algorithms") = pyb::tuple(algorithms);
  module.def("nccl_version", &nccl_version, Free());
  module.def("time_all_reduce", &timed, pyb::arg("communicator"), pyb::arg("tensors"),
             pyb::arg("out"), pyb::arg("op"), pyb::arg("iterations"), Free());
}

}  // namespace vt::py
