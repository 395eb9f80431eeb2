"""Operators that are put off give the bits of the operators one by one, whatever the program."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vibetensor.torch as torch
from vibetensor import _C, fuse

UNARY = ["exp", "tanh", "neg", "abs", "sigmoid", "relu", "sqrt", "cos"]
BINARY = ["add", "sub", "mul", "true_divide", "maximum"]
SHAPES = [(6, 8), (8,), (6, 1), (1, 1), (48,), ()]


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().float().cpu().numpy().tobytes()


class Program:
    """A random list of operators on a pool of tensors, some of which are dropped on the way."""

    def __init__(self, choices: list[tuple[int, int, int, int]]) -> None:
        self.choices = choices

    def __call__(self, seed: int, device: str) -> list[torch.Tensor]:
        """The tensors that stay alive."""
        torch.manual_seed(seed)
        dtypes = [torch.float32, torch.bfloat16, torch.float16]
        pool = [torch.randn(shape).to(device).to(dtypes[i % 3]) for i, shape in enumerate(SHAPES)]
        kept = list(pool)
        for kind, a, b, c in self.choices:
            x, y = pool[a % len(pool)], pool[b % len(pool)]
            try:
                if kind == 0:
                    result = getattr(torch, UNARY[c % len(UNARY)])(x)
                elif kind == 1:
                    result = getattr(torch, BINARY[c % len(BINARY)])(x, y)
                elif kind == 2:
                    result = x.to(dtypes[c % 3])
                elif kind == 3:
                    result = x.add_(y) if c % 2 else x.mul_(0.5)
                elif kind == 4:
                    result = torch.where(x > 0, y, x)
                elif kind == 5:
                    result = x.t() if x.dim() == 2 else x.reshape(-1)
                elif kind == 6:
                    result = torch.zeros_like(x)
                elif kind == 7:
                    result = x.sum()
                else:
                    del pool[a % len(pool)]
                    if not pool:
                        break
                    continue
            except RuntimeError:
                continue  # shapes that do not broadcast
            pool.append(result)
            if c % 5 == 0:
                kept.append(result)
        return kept


choice = st.tuples(st.integers(0, 8), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))


# Without the passes that do not promise the same bits.
NUMBERS = {
    "reductions": False,
    "norm_backward_add": False,
    "norm_backward_sum": False,
    "linear_add": False,
}


@settings(max_examples=60, deadline=None)
@given(st.lists(choice, min_size=2, max_size=40), st.integers(0, 1000))
@pytest.mark.parametrize(
    "passes", [NUMBERS, {**NUMBERS, "dead_work": False}, {**NUMBERS, "pointwise": False}]
)
@pytest.mark.parametrize("device", DEVICES)
def test_any_program_gives_the_same_bits(
    device: str, passes: Any, choices: list[tuple[int, int, int, int]], seed: int
) -> None:
    if device == "cuda":
        choices = choices[:12]  # each chain is a kernel to compile
    program = Program(choices)
    with np.errstate(all="ignore"):
        expected = [bits(t) for t in program(seed, device)]
        with fuse.recording(passes) as made:
            results = program(seed, device)
        assert [bits(t) for t in results] == expected
    assert made.report is not None and made.report.failure == ""


@pytest.mark.parametrize("device", DEVICES)
def test_a_chain_becomes_one_kernel(device: str) -> None:
    x, y = torch.randn(64, 32, device=device), torch.randn(32, device=device)
    expected = torch.tanh(x * y + 1.0).exp()
    with fuse.recording() as made:
        result = torch.tanh(x * y + 1.0).exp()
    assert bits(result) == bits(expected)
    assert made.report is not None and made.report.recorded == 4 and made.report.launched == 1
    (kernel,) = made.report.kernels
    assert kernel.operators == "mul add tanh exp"
    assert (kernel.loads, kernel.stores) == (2, 1)
    assert made.report.not_stored == 3
    assert made.report.bytes_saved == 6 * 64 * 32 * 4
    assert "mul add tanh exp" in str(made.report) and made.report.to_dict()["launched"] == 1


def test_each_pass_can_be_switched_off() -> None:
    x = torch.randn(64, 32)

    def work() -> torch.Tensor:
        torch.exp(x)  # nobody reads this
        return (x.to(torch.bfloat16) + torch.ones(64, 32, dtype=torch.bfloat16)).float() * 2.0

    expected = bits(work())
    launched, dropped = {}, {}
    for off in [None, *fuse.passes()]:
        with fuse.recording({} if off is None else {off: False}) as made:
            result = work()
        assert bits(result) == expected
        launched[off] = made.report.launched + made.report.passed_by
        dropped[off] = made.report.dropped
    assert {k: v for k, v in launched.items() if v != 1} == {
        "pointwise": 5,
        "casts": 4,
        "fills": 3,
    }
    assert dropped.pop("dead_work") == 0 and set(dropped.values()) == {1}


def test_reading_a_value_runs_what_is_pending() -> None:
    x = torch.randn(16)
    with fuse.recording() as made:
        y = x + 1.0
        assert y[3].item() == (x.numpy() + np.float32(1))[3]
        z = y * 2.0
        assert z.tolist() == ((x.numpy() + np.float32(1)) * 2).tolist()
    assert made.report.flushes >= 2


@pytest.mark.parametrize("device", DEVICES)
def test_indices_that_were_just_computed(device: str) -> None:
    """Whether they are in range, and how many classes they name, is asked of their values."""
    table = torch.randn(10, 4, device=device)
    index = torch.tensor([1, -100, 3], device=device)

    def work() -> list[torch.Tensor]:
        inside = index.clamp(min=0)
        return [table[inside], torch.nn.functional.one_hot(inside * 2)]

    expected = [bits(t) for t in work()]
    for _ in range(3):
        with fuse.recording():
            found = work()
        assert [bits(t) for t in found] == expected
        if device == "cpu":
            with fuse.recording(), pytest.raises(IndexError, match="out of bounds"):
                table[index.clamp(min=0) + 7]


def test_an_error_inside_leaves_right_values_and_no_recording() -> None:
    x = torch.randn(16)
    with pytest.raises(RuntimeError, match="broadcast"), fuse.recording():
        y = x + 1.0
        y.mul_(2.0)
        y + torch.randn(15)
    assert bits(y) == bits((x + 1.0) * 2.0)
    with fuse.recording(), pytest.raises(RuntimeError, match="active already"):
        fuse.recording().__enter__()


@pytest.mark.parametrize("device", DEVICES)
def test_backward_is_part_of_the_list(device: str) -> None:
    def grads() -> list[bytes]:
        torch.manual_seed(3)
        x = torch.randn(32, 16, device=device, requires_grad=True)
        w = torch.randn(16, device=device, requires_grad=True)
        loss = (torch.sigmoid(x * w) * x).sum()
        loss.backward()
        return [bits(loss), bits(x.grad), bits(w.grad)]

    expected = grads()
    with fuse.recording() as made:
        got = grads()
    assert got == expected and made.report.launched < made.report.recorded


def test_unknown_passes_are_named() -> None:
    with pytest.raises(ValueError, match="no pass named 'pointwize'"):
        fuse.recording({"pointwize": False})


def test_long_chains_take_no_more_memory_than_eagerly() -> None:
    x = torch.randn(1 << 16)

    def work() -> torch.Tensor:
        y = x
        for _ in range(20):
            y = torch.sin(y) * 0.5 + x
        return y

    def peak() -> int:
        _C.reset_peak_memory(x.device)
        before = _C.memory_stats(x.device)["allocated"]
        found = work()
        del found
        return _C.memory_stats(x.device)["peak_allocated"] - before

    eager = peak()
    with fuse.recording() as made:
        fused = peak()
    assert fused <= eager + 4 * 4096
    assert made.report is not None and made.report.recorded == 60


def test_a_value_that_two_kernels_need_gets_memory_again() -> None:
    x = torch.randn(64, 32)

    def work() -> list[torch.Tensor]:
        doubled = torch.exp(x) * 2.0
        even = doubled[:, ::2] + 1.0  # another space: another kernel reads what the first one made
        del doubled
        return [even, torch.tanh(even)]

    expected = [bits(t) for t in work()]
    with fuse.recording() as made:
        found = work()
    assert [bits(t) for t in found] == expected
    assert made.report is not None and made.report.launched == 2
