"""Every elementwise operator over two devices: the bits of one device, gradients too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from operator_cases import CASES, Case, flat_results, supported, to_ours

import vibetensor
import vibetensor.torch as vt
from vibetensor import fabric

SEVERAL = [c for c in CASES if c.op.kind == "pointwise" and len(c.tensors) >= 2]
PAIRS = [
    pytest.param(("cpu:0", "cpu:1"), id="cpu"),
    pytest.param(("cuda:0", "cuda:1"), id="cuda", marks=pytest.mark.cuda(devices=2)),
]


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    vibetensor.set_cpu_devices(4)
    fabric.enable("strict")
    yield
    fabric.disable()


def bits(t: vt.Tensor) -> bytes:
    t = t.detach().cpu().contiguous()
    return bytes((t.float() if t.is_floating_point() else t).numpy().tobytes())


def call(case: Case, given: list[Any], devices: list[str], gradient: bool) -> list[vt.Tensor]:
    """Results and, if wanted, the gradients of all floating-point operands; devices are checked."""
    placed = []
    for t in given:
        if isinstance(t, vt.Tensor):
            t = t.to(devices[len([p for p in placed if isinstance(p, vt.Tensor)])])
            t = t.detach().requires_grad_() if gradient and t.is_floating_point() else t
        placed.append(t)
    results = flat_results(case.ours(placed, case.kwargs))
    assert all(str(r.device) == devices[0] for r in results)
    leaves = [t for t in placed if isinstance(t, vt.Tensor) and t.requires_grad]
    if not gradient or not leaves or not results[0].requires_grad:
        return results
    results[0].sum().backward()
    for leaf in leaves:
        assert leaf.grad is None or leaf.grad.device == leaf.device
    return results + [leaf.grad for leaf in leaves if leaf.grad is not None]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("variant", ["plain", "broadcast", "transposed", "sliced", "empty"])
@pytest.mark.parametrize("case", SEVERAL, ids=lambda c: c.id)
def test_two_devices_have_the_bits_of_one(case: Case, variant: str, pair: tuple[str, str]) -> None:
    for dtype in ("float32", "bfloat16", "int64"):
        arguments = case.arguments(dtype, variant)
        if arguments is None or not supported(case.op, dtype):
            continue
        if any(not getattr(t, "shape", (1,)) for t in arguments):
            continue  # a 0-d tensor may meet any device anyway
        given = [to_ours(t) for t in arguments]
        count = len(case.tensors)
        gradient = dtype == "float32" and variant != "empty"
        wanted = call(case, given, [pair[0]] * count, gradient)
        for other in ([pair[0], *[pair[1]] * (count - 1)], [*[pair[0]] * (count - 1), pair[1]]):
            found = call(case, given, other, gradient)
            assert [bits(a) for a in found] == [bits(b) for b in wanted], (dtype, other)
