"""Training loops over a case, as functions that run so many steps: ours, and PyTorch's."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from benchmarks.train.cases import Case

ANY_ORDER = "fused any order"  # not always the same bits in every run, as PyTorch's sides
OURS = ("eager", "captured", "fused", ANY_ORDER)
TORCH = ("torch eager", "torch compile", "torch reduce-overhead", "torch graph")
EAGER_STEPS = 8  # of "torch graph", before the step is captured


@dataclass(frozen=True)
class Loop:
    """`run(steps)` trains and waits; `peak()` is the most memory in bytes since `reset()`, without
    what others held before the loop was made; `losses` trains so many steps and gives the loss of
    each."""

    run: Callable[[int], None]
    losses: Callable[[int], list[float]]
    reset: Callable[[], None]
    peak: Callable[[], int]


def make(case: Case, mode: str, seed: int = 0, wide: bool = False, autocast: bool = False) -> Loop:
    """The loop of a case in one of the modes of `OURS` or `TORCH`, or "trainer".

    With `wide` the losses that are told are taken of float32 logits, as PyTorch's autocast does;
    otherwise they have the dtype of the logits. With `autocast` our parameters stay float32, and
    a region of autocast makes the precision of the case.
    """
    held = _held(case, mode)
    if mode == "trainer":
        loop = _trainer(case)
    elif mode in OURS:
        loop = _ours(case, mode, seed, wide, autocast)
    else:
        loop = _theirs(case, mode, seed)
    return replace(loop, peak=lambda: loop.peak() - held)


def _held(case: Case, mode: str) -> int:
    """Bytes of the GPU that the mode's library has given to others."""
    if case.device != "cuda":
        return 0
    library = importlib.import_module("torch" if mode in TORCH else "vibetensor.torch")
    return int(library.cuda.memory_allocated())


def _loop(
    step: Callable[[Any], Any], batches: list[Any], wait: Callable[[], None], cuda: Any
) -> Loop:
    def run(steps: int) -> None:
        for i in range(steps):
            step(batches[i % len(batches)])
        wait()

    def losses(steps: int) -> list[float]:
        return [float(step(batches[i % len(batches)])) for i in range(steps)]

    return Loop(
        run,
        losses,
        lambda: cuda.reset_peak_memory_stats() if cuda else None,
        lambda: cuda.max_memory_allocated() if cuda else 0,
    )


def _trainer(case: Case) -> Loop:
    """Steps of a Trainer on as many ranks as the case says."""
    import vibetensor.torch as torch
    from vibetensor import _C, fabric
    from vibetensor.examples import gpt
    from vibetensor.parallel import DataParallel, Trainer

    if case.device == "cpu":
        mesh = fabric.parse_devices(f"cpu:{case.ranks}")
    else:
        mesh = fabric.mesh("cuda:0", ranks=case.ranks)
    torch.manual_seed(0)
    model = DataParallel(case.model(networks()), mesh)
    trainer = Trainer(
        model, torch.optim.AdamW(model.parameters(), lr=case.lr), gpt.loss,
        precision=case.precision, clip=1.0,
    )  # fmt: skip
    batches = [tuple(torch.from_numpy(a) for a in batch) for batch in case.batches()]

    def wait() -> None:
        for device in dict.fromkeys(mesh.devices):
            _C.synchronize(device)

    cuda = torch.cuda if case.device == "cuda" else None
    return _loop(lambda batch: trainer.step(batch).loss, batches, wait, cuda)


def _ours(case: Case, mode: str, seed: int, wide: bool, autocast: bool) -> Loop:
    """A plain loop on our runtime; bf16 keeps float32 masters in the optimizer."""
    import vibetensor
    import vibetensor.torch as torch

    models = networks()
    torch.manual_seed(seed)
    model = case.model(models).to(case.device)
    narrow = case.precision == "bf16" and not autocast
    if narrow:
        model = model.to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=case.lr)
    dtype = torch.bfloat16 if narrow else torch.float32
    wanted = case.precision == "bf16" and autocast
    batches = []
    for inputs, targets in case.batches():
        inputs = torch.from_numpy(inputs)
        if inputs.is_floating_point():
            inputs = inputs.to(dtype)
        batches.append((inputs.pin_memory(), torch.from_numpy(targets).pin_memory()))

    def step(inputs: Any, targets: Any) -> Any:
        inputs = inputs.to(case.device, non_blocking=True)
        targets = targets.to(case.device, non_blocking=True)
        optimizer.zero_grad()
        with torch.autocast(case.device, torch.bfloat16, enabled=wanted):
            logits = model(inputs)
            loss = models.loss(logits, targets)
        told = models.loss(logits.detach().float(), targets) if wide else loss.detach()
        del logits  # its memory may become the gradient's
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return told

    if mode != "eager":
        step = vibetensor.capture(step, fuse=mode.startswith("fused"))
    if mode == ANY_ORDER:
        step = _in_any_order(torch, step)
    return _loop(lambda batch: step(*batch), batches, torch.cuda.synchronize, torch.cuda)


def _in_any_order(torch: Any, step: Callable[..., Any]) -> Callable[..., Any]:
    def run(*batch: Any) -> Any:
        torch.use_deterministic_algorithms(False)
        try:
            return step(*batch)
        finally:
            torch.use_deterministic_algorithms(True)

    return run


def _theirs(case: Case, mode: str, seed: int) -> Loop:
    """The same model and loop on PyTorch: fused AdamW, autocast for bf16; without a GPU, eager."""
    import torch

    models = networks(twin=True)
    torch.manual_seed(seed)
    model = case.model(models).to(case.device)
    graphed = mode == "torch graph"
    optimizer = torch.optim.AdamW(model.parameters(), lr=case.lr, fused=True, capturable=graphed)
    cuda = case.device == "cuda"
    batches = [[torch.from_numpy(a) for a in batch] for batch in case.batches()]
    if cuda:
        batches = [[tensor.pin_memory() for tensor in batch] for batch in batches]

    def forward(inputs: Any, targets: Any) -> Any:
        wanted, cached = case.precision == "bf16", not graphed
        with torch.autocast(case.device, torch.bfloat16, enabled=wanted, cache_enabled=cached):
            return models.loss(model(inputs), targets)

    if mode == "torch compile":
        forward = torch.compile(forward)
    elif mode == "torch reduce-overhead":
        forward = torch.compile(forward, mode="reduce-overhead")

    def step(batch: Any) -> Any:
        if mode == "torch reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        inputs, targets = (t.to(case.device, non_blocking=True) for t in batch)
        optimizer.zero_grad()
        loss = forward(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    if graphed:
        step = _graphed(torch, step, batches[0])
    wait = torch.cuda.synchronize if cuda else lambda: None
    return _loop(step, batches, wait, torch.cuda if cuda else None)


def _graphed(torch: Any, step: Callable[[Any], Any], batch: Any) -> Callable[[Any], Any]:
    """PyTorch's step as one CUDA graph, captured by hand after some eager steps."""
    static = [tensor.to("cuda") for tensor in batch]
    graph, side, made = torch.cuda.CUDAGraph(), torch.cuda.Stream(), 0
    loss: Any = None

    def run(batch: Any) -> Any:
        nonlocal made, loss
        made += 1
        for target, source in zip(static, batch, strict=True):
            target.copy_(source, non_blocking=True)
        if made <= EAGER_STEPS:
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                found = step(static)
            torch.cuda.current_stream().wait_stream(side)
            return found
        if loss is None:
            with torch.cuda.graph(graph):
                loss = step(static)
        graph.replay()
        return loss

    return run


def networks(twin: bool = False) -> ModuleType:
    """The networks, on our runtime or, as the same text, on PyTorch. `gpt` in it is the example."""
    from benchmarks.train import models
    from vibetensor.examples import gpt

    if not twin:
        models.gpt = gpt  # type: ignore[attr-defined]
        return models
    result = _on_pytorch(models)
    result.gpt = _on_pytorch(gpt)  # type: ignore[attr-defined]
    return result


def _on_pytorch(module: ModuleType) -> ModuleType:
    source = inspect.getsource(module)
    source = source.replace("import vibetensor.torch as torch\n", "import torch\n")
    source = source.replace("from vibetensor.torch import nn\n", "from torch import nn\n")
    twin = ModuleType(module.__name__ + "_on_pytorch")
    sys.modules[twin.__name__] = twin  # where torch.compile looks for it
    exec(compile(source, str(module.__file__), "exec"), twin.__dict__)
    return twin
