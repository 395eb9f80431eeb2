"""What a region of autocast makes of every operator of the table, with PyTorch as oracle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch as pt
from operator_cases import CASES, Case, attempt, flat_results, to_ours

import vibetensor.torch as vt

# Types of the floating inputs: the first one's, and that of the others.
MIXES = [
    ("float32", "float32"),
    ("bfloat16", "bfloat16"),
    ("float32", "bfloat16"),
    ("bfloat16", "float32"),
    ("float32", "float16"),
    ("float16", "float32"),
    ("float64", "float64"),
    ("float16", "float16"),
]
FIXED = [case for case in CASES if "values" not in case.test and case.tensors]
# Made for in-place use, where autocast leaves all as it is.
FUNCTIONS = [c for c in FIXED if not c.op.mutates and c.op.entry.get("over") != "int"]


def mixed(case: Case, first: str, others: str) -> list[Any]:
    """The arguments with their floating tensors in two types."""
    given = case.arguments("float32", "plain")
    assert given is not None
    wanted = iter([first] + [others] * len(given))
    return [
        t.to(getattr(pt, next(wanted))) if isinstance(t, pt.Tensor) and t.is_floating_point() else t
        for t in given
    ]


def types(results: Any) -> list[str]:
    return [
        str(r.dtype).removeprefix("torch.") for r in flat_results(results) if hasattr(r, "dtype")
    ]


def is_torchs(case: Case) -> bool:
    """Not one of those that have a formula for an oracle."""
    return not case.test.get("ref", "").startswith("formulas.")


def same_types(case: Case, device: str, lower: str) -> None:
    """Results in a region have torch's types, for all mixes that torch takes, at least one."""
    ran = 0
    for first, others in MIXES:
        given = [
            t.to(device) if isinstance(t, pt.Tensor) else t for t in mixed(case, first, others)
        ]
        mine = [to_ours(t.cpu()).to(device) if isinstance(t, pt.Tensor) else t for t in given]
        with pt.autocast(device, getattr(pt, lower)):
            theirs, refusal = attempt(case.torch, given, case.kwargs)
        with vt.autocast(device, getattr(vt, lower)):
            ours, error = attempt(case.ours, mine, case.kwargs)
        if refusal is not None:
            continue
        assert error is None, f"{first}, {others}: {error}"
        assert types(ours) == types(theirs), f"{first}, {others}"
        ran += 1
    assert ran > 0


@pytest.mark.parametrize("lower", ["bfloat16", "float16"])
@pytest.mark.parametrize("case", FUNCTIONS, ids=lambda c: c.id)
def test_types_on_the_cpu(case: Case, lower: str) -> None:
    same_types(case, "cpu", lower)


# Lists grow: torch 2.13 casts these on GPUs, 2.11 did not.
SINCE = {"rms_norm": (2, 13)}


@pytest.mark.cuda
@pytest.mark.parametrize("lower", ["bfloat16", "float16"])
@pytest.mark.parametrize("case", [c for c in FUNCTIONS if is_torchs(c)], ids=lambda c: c.id)
def test_types_on_a_gpu(case: Case, lower: str) -> None:
    version = tuple(int(part) for part in pt.__version__.split(".")[:2])
    if version < SINCE.get(case.id, (0, 0)):
        pytest.skip(f"torch {pt.__version__} does not cast it yet")
    same_types(case, "cuda", lower)


def cast(rule: str, lower: pt.dtype, given: list[Any]) -> list[Any]:
    """The arguments as a rule of the table has them."""
    floats = [t for t in given if isinstance(t, pt.Tensor) and t.is_floating_point()]
    castable = [t for t in floats if t.dtype != pt.float64]
    if rule == "none" or not castable:
        return given
    wanted = {"lower": lower, "float32": pt.float32}.get(rule)
    if wanted is None:
        wanted = castable[0].dtype
        for t in castable:
            wanted = pt.promote_types(wanted, t.dtype)
    return [t.to(wanted) if any(t is each for each in castable) else t for t in given]


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Inside, torch infers types and shapes of tensors on a GPU that need not be there."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def on_gpu(t: pt.Tensor) -> pt.Tensor:
    """Of this shape and type."""
    return pt.empty(t.shape, dtype=t.dtype, device="cuda")


@contextmanager
def on_cuda(lower: pt.dtype) -> Iterator[None]:
    """torch's region for GPUs, also where there are none."""
    pt.set_autocast_enabled("cuda", True)
    pt.set_autocast_dtype("cuda", lower)
    try:
        yield
    finally:
        pt.set_autocast_enabled("cuda", False)
        pt.set_autocast_dtype("cuda", pt.float16)


@pytest.mark.parametrize("case", [c for c in FUNCTIONS if is_torchs(c)], ids=lambda c: c.id)
def test_the_table_says_what_torch_casts_on_gpus(case: Case) -> None:
    rule = case.op.autocast.get("cuda", "none")
    lower, ran = pt.float16, 0
    for first, others in MIXES:
        if "bfloat16" in (first, others):
            continue
        made = mixed(case, first, others)
        with pretended_gpu():
            given = [on_gpu(t) if isinstance(t, pt.Tensor) else t for t in made]
            with on_cuda(lower):
                theirs, refusal = attempt(case.torch, given, case.kwargs)
            if refusal is not None:
                continue
            expected, refusal = attempt(case.torch, cast(rule, lower, given), case.kwargs)
            assert refusal is None, f"{first}, {others}: {refusal}"
        assert types(expected) == types(theirs), f"{first}, {others}, {rule}"
        ran += 1
    if not ran:  # its shape depends on values
        assert rule == "none"
        pytest.skip(f"torch cannot tell: {refusal}")
