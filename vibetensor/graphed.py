"""`torch.cuda.make_graphed_callables`: parts of a model as graphs, forward and backward apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from vibetensor import _C, autograd
from vibetensor.graphs import CUDAGraph, graph, graph_pool_handle
from vibetensor.replay import StaleGraphError
from vibetensor.structure import leaves_of, map_tensors

Tensor = _C.Tensor
Part: TypeAlias = Callable[..., Any]


def make_graphed_callables(
    callables: Any,
    sample_args: Any,
    num_warmup_iters: int = 3,
    allow_unused_input: bool = False,
    pool: _C.MemoryPool | None = None,
) -> Any:
    """Functions or modules whose forward and backward passes are replays of graphs.

    For a part of a model that can be captured between parts that cannot; `vibetensor.capture` takes
    whole steps. Calls must have the shapes and types of the sample, parts must be called in the
    order given, and what one returns is overwritten by its next call.

    Args:
        callables: a function or module, or a tuple of them that share their memory.
        sample_args: a tuple of CUDA tensors for it, with requires_grad as later calls will have it;
            or a tuple of such tuples.
        num_warmup_iters: eager passes before the capture.
        allow_unused_input: whether an input or parameter may have no effect on the outputs.
        pool: memory to share, as `graph_pool_handle()` gives.

    Returns:
        What stands for each callable. A module is returned itself: it replays while it is in the
        training mode in which it was captured, and runs eagerly otherwise.

    Raises:
        RuntimeError: something in a callable cannot be captured.
        TypeError: a sample is not a tuple of CUDA tensors.
    """
    single = not isinstance(callables, tuple)
    parts = (callables,) if single else callables
    samples = (sample_args,) if single else sample_args
    if len(parts) != len(samples):
        raise ValueError(
            f"make_graphed_callables: {len(parts)} callables, {len(samples)} samples; give one each"
        )
    pool = pool or graph_pool_handle()
    family = _Family(pool)
    for part, sample in zip(parts, samples, strict=True):
        family.members.append(_Graphed(part, sample, family, allow_unused_input))
    for each in family.members:
        for _ in range(num_warmup_iters):
            each.warm_up()
    family.capture()
    results = [_stand_in(part, each) for part, each in zip(parts, family.members, strict=True)]
    return results[0] if single else tuple(results)


class _Family:
    """Callables that were captured together."""

    def __init__(self, pool: _C.MemoryPool) -> None:
        self.pool = pool
        self.stream = _C.Stream(pool.device)
        self.members: list[_Graphed] = []
        self._placed: _C.PlacedTensors | None = None

    def capture(self) -> None:
        with autograd.enable_grad():
            for each in self.members:
                each.capture_forward()
            for each in reversed(self.members):
                each.capture_backward()
        self._placed = _C.PlacedTensors([param for each in self.members for param in each.params])

    def refresh(self, member: _Graphed) -> None:
        """Captures again where parameters have other memory, as after the first step of an
        optimizer, which lays them out anew.
        """
        if self._placed is None or not self._placed.moved():
            return
        if member is not self.members[0]:
            raise StaleGraphError(
                "graphed callable: parameters were given other memory in the middle of a step; "
                "call the callables in the order in which they were captured"
            )
        self.capture()


class _Graphed:
    """The two graphs of one callable, and the tensors between which they run."""

    def __init__(
        self,
        part: Part,
        sample: Any,
        family: _Family,
        allow_unused: bool,
    ) -> None:
        if not isinstance(sample, tuple) or not all(
            isinstance(each, Tensor) and each.device.type == "cuda" for each in sample
        ):
            raise TypeError("make_graphed_callables: a sample is a tuple of CUDA tensors")
        self._part, self._family = part, family
        self._eager: Part = getattr(part, "forward", part)
        self._mode = getattr(part, "training", None)
        self._allow_unused = allow_unused
        params = part.parameters() if hasattr(part, "parameters") else ()
        self.params = tuple(param for param in params if param.requires_grad)
        self.inputs = tuple(
            each.detach().clone().requires_grad_(each.requires_grad) for each in sample
        )
        self.wanted = [i for i, each in enumerate(self.inputs) if each.requires_grad]
        self.forward_graph, self.backward_graph = CUDAGraph(), CUDAGraph()
        self.outputs: Any = None
        self.flat: list[Tensor] = []
        self.seeds: list[Tensor] = []
        self.grads: list[Tensor | None] = []

    def _sources(self) -> list[Tensor]:
        return [*(self.inputs[i] for i in self.wanted), *self.params]

    def _gradients(self, outputs: list[Tensor], seeds: list[Tensor]) -> list[Tensor | None]:
        if not self._sources() or not outputs:
            return [None] * len(self._sources())
        return list(autograd.grad(outputs, self._sources(), seeds, allow_unused=self._allow_unused))

    def warm_up(self) -> None:
        outputs = [t for t in leaves_of(self._eager(*self.inputs)) if _differentiable(t)]
        self._gradients(outputs, [_C.ops.zeros_like(each) for each in outputs])

    def capture_forward(self) -> None:
        if getattr(self._part, "training", None) != self._mode:
            raise StaleGraphError(
                "graphed callable: it must be captured again, because parameters have other "
                "memory, but a module is in another mode than it was captured in"
            )
        with graph(self.forward_graph, self._family.pool, self._family.stream):
            self.outputs = self._eager(*self.inputs)
        self.flat = [each for each in leaves_of(self.outputs) if isinstance(each, Tensor)]
        self.seeds = [_C.ops.zeros_like(each.detach()) for each in self.flat]

    def capture_backward(self) -> None:
        pairs = [(t, s) for t, s in zip(self.flat, self.seeds, strict=True) if _differentiable(t)]
        with graph(self.backward_graph, self._family.pool, self._family.stream):
            self.grads = self._gradients([t for t, _ in pairs], [s for _, s in pairs])
        # Their history is spent; replays need the memory only.
        self.outputs = map_tensors(Tensor.detach, self.outputs)
        self.flat = [each for each in leaves_of(self.outputs) if isinstance(each, Tensor)]

    def __call__(self, *args: Tensor) -> Any:
        if len(args) != len(self.inputs):
            raise TypeError(f"graphed callable: got {len(args)} tensors for {len(self.inputs)}")
        self._family.refresh(self)
        flat = iter(_Replay.apply(self, *args, *self.params))
        return map_tensors(lambda _: next(flat), self.outputs)


def _differentiable(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


class _Replay(autograd.Function):
    @staticmethod
    def forward(ctx: Any, graphed: _Graphed, *tensors: Tensor) -> Any:
        for place, given in zip(graphed.inputs, tensors, strict=False):
            if place.shape != given.shape or place.dtype != given.dtype:
                raise RuntimeError(
                    f"graphed callable: got {given.dtype} of shape {tuple(given.shape)}, it was "
                    f"captured with {place.dtype} of shape {tuple(place.shape)}"
                )
        count = len(graphed.inputs)
        _C.copy_inputs([each.detach() for each in graphed.inputs], list(tensors[:count]))
        graphed.forward_graph.replay()
        ctx.graphed = graphed
        outputs = tuple(each.detach() for each in graphed.flat)
        ctx.mark_non_differentiable(*[each for each in outputs if not each.is_floating_point()])
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        graphed = ctx.graphed
        _C.copy_inputs(graphed.seeds, list(grads))
        graphed.backward_graph.replay()
        found: list[Tensor | None] = [None] * (1 + len(graphed.inputs))
        for i, grad in zip(graphed.wanted, graphed.grads, strict=False):
            found[1 + i] = None if grad is None else grad.detach()
        rest = graphed.grads[len(graphed.wanted) :]
        return (*found, *(None if grad is None else grad.detach() for grad in rest))


def _stand_in(part: Any, graphed: _Graphed) -> Any:
    if not hasattr(part, "parameters"):
        return graphed
    eager, mode = part.forward, part.training

    def forward(*args: Any) -> Any:
        return graphed(*args) if part.training == mode else eager(*args)

    part.forward = forward
    return part
