"""Clipping over lists of gradients: many, odd, strided, of several types; against numpy."""

from __future__ import annotations

import numpy as np
import pytest

import vibetensor.torch as torch
from vibetensor import _C

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
clip = torch.nn.utils.clip_grad_norm_


def _params(sizes: list[int], device: str, dtype: torch.dtype) -> list[torch.Tensor]:
    numbers = np.random.default_rng(0)
    params = []
    for size in sizes:
        param = torch.zeros(size, device=device, dtype=dtype).requires_grad_()
        values = numbers.standard_normal(size + 1).astype(np.float32)
        # one element into its memory: not aligned to 16 bytes
        param.grad = torch.from_numpy(values).to(dtype).to(device)[1:]
        params.append(param)
    return params


def _wide(params: list[torch.Tensor]) -> np.ndarray:
    return np.concatenate([param.grad.double().cpu().numpy().ravel() for param in params])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sizes", [[5], [0, 3], [16384, 16385, 40000], [7, 8, 9] * 120])
def test_joint_norm(device: str, dtype: torch.dtype, sizes: list[int]) -> None:
    params = _params(sizes, device, dtype)
    before = _wide(params)
    norm = clip(params, 0.5)
    assert float(norm.item()) == pytest.approx(np.linalg.norm(before), rel=1e-5)
    factor = min(1.0, 0.5 / (np.linalg.norm(before) + 1e-6))
    rounding = {torch.float32: 1e-6, torch.float64: 1e-12}.get(dtype, 8e-3)
    np.testing.assert_allclose(_wide(params), before * factor, rtol=rounding, atol=1e-7)


@pytest.mark.parametrize("device", DEVICES)
def test_a_norm_below_the_limit_changes_nothing(device: str) -> None:
    params = _params([100, 20000], device, torch.float32)
    before = _wide(params)
    clip(params, 1e6)
    np.testing.assert_array_equal(_wide(params), before)


@pytest.mark.parametrize("device", DEVICES)
def test_types_and_strides_mix(device: str) -> None:
    params = _params([300], device, torch.float32) + _params([50], device, torch.bfloat16)
    square = torch.zeros(4, 6, device=device).requires_grad_()
    square.grad = torch.arange(24.0, device=device).reshape(6, 4).t()
    params.append(square)
    before = _wide(params)
    norm = clip(params, 1.0)
    assert float(norm.item()) == pytest.approx(np.linalg.norm(before), rel=1e-5)
    np.testing.assert_allclose(_wide(params), before / np.linalg.norm(before), rtol=1e-2)
    np.testing.assert_allclose(
        square.grad.cpu().numpy(), np.arange(24.0).reshape(6, 4).T / norm.item(), rtol=1e-5
    )


@pytest.mark.parametrize("device", DEVICES)
def test_nan_shows(device: str) -> None:
    params = _params([10, 10], device, torch.float32)
    params[0].grad[3] = float("nan")
    clip(params, 1.0)
    assert np.isnan(_wide(params)).all()


def test_lists_are_checked() -> None:
    with pytest.raises(RuntimeError, match=r"norm_list.*one type"):
        _C.ops.norm_list([torch.zeros(2), torch.zeros(2).double()])
    with pytest.raises(ValueError, match="no tensors"):
        _C.ops.norm_list([])
