"""Reductions of rows in a chain: one kernel, the numbers of the operators one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import vibetensor.torch as torch
from vibetensor import fuse

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
Work = Callable[[torch.Tensor, torch.Tensor], list[torch.Tensor]]


def rms_norm(x: torch.Tensor, w: torch.Tensor) -> list[torch.Tensor]:
    return [x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * w]


def softmax(x: torch.Tensor, w: torch.Tensor) -> list[torch.Tensor]:
    e = torch.exp(x - x.amax(-1, keepdim=True))
    return [e / e.sum(-1, keepdim=True) * w]


def standardised(x: torch.Tensor, w: torch.Tensor) -> list[torch.Tensor]:
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred * centred).mean(-1, keepdim=True)
    return [centred / torch.sqrt(spread + 1e-5) * w, spread]


def losses_of_rows(x: torch.Tensor, w: torch.Tensor) -> list[torch.Tensor]:
    return [((x - w) ** 2).sum(-1), (x.float() * 2.0).amin(-1)]


WORKS = [rms_norm, softmax, standardised, losses_of_rows]


def close(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for f, e in zip(found, expected, strict=True):
        assert f.dtype == e.dtype and f.shape == e.shape
        # Sums in another order; in 16 bits that moves a result to a neighbour.
        unit = {torch.float32: 2.0**-20, torch.bfloat16: 2.0**-7, torch.float64: 2.0**-48}[f.dtype]
        np.testing.assert_allclose(
            f.detach().double().cpu().numpy(),
            e.detach().double().cpu().numpy(),
            rtol=unit,
            atol=unit,
        )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(7, 33), (2, 5, 256), (66, 1000), (64, 4096), (65, 2500)])
@pytest.mark.parametrize("work", WORKS)
def test_rows(work: Work, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    torch.manual_seed(1)
    x = torch.randn(shape, device=device).to(dtype)
    w = torch.randn(shape[-1], device=device).to(dtype)
    expected = work(x, w)
    with fuse.recording() as made:
        found = work(x, w)
    close(found, expected)
    report = made.report
    assert report is not None and report.failure == "" and report.launched == 1, str(report)
    with fuse.recording() as made:
        again = work(x, w)
    assert [t.float().cpu().numpy().tobytes() for t in again] == [
        t.float().cpu().numpy().tobytes() for t in found
    ]


@pytest.mark.parametrize("device", DEVICES)
def test_switched_off_the_bits_are_those_of_the_operators(device: str) -> None:
    x, w = torch.randn(64, 256, device=device), torch.randn(256, device=device)
    expected = [t.cpu().numpy().tobytes() for t in standardised(x, w)]
    with fuse.recording({"reductions": False}) as made:
        found = standardised(x, w)
    assert [t.cpu().numpy().tobytes() for t in found] == expected
    assert made.report is not None and made.report.launched > 1


@pytest.mark.parametrize("device", DEVICES)
def test_backward_of_a_formula(device: str) -> None:
    def grads() -> list[torch.Tensor]:
        torch.manual_seed(2)
        x = torch.randn(64, 128, device=device, requires_grad=True)
        w = torch.randn(128, device=device, requires_grad=True)
        (rms_norm(x, w)[0] * softmax(x, w)[0]).sum().backward()
        assert x.grad is not None and w.grad is not None
        return [x.grad, w.grad]

    expected = grads()
    with fuse.recording() as made:
        found = grads()
    close(found, expected)
    assert made.report is not None and made.report.launched * 3 < made.report.recorded


def test_rows_that_nobody_can_hold_are_left_alone() -> None:
    x = torch.randn(3, 20000)
    with fuse.recording() as made:
        y = (x * 2.0).sum(-1)
        z = (x.t() * 2.0).sum(0)
    np.testing.assert_allclose(y.numpy(), (x.numpy() * 2).sum(-1), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(z.numpy(), y.numpy(), rtol=1e-3, atol=1e-3)
    assert made.report is not None and all("sum" not in k.operators for k in made.report.kernels)
