"""topk against a stable sort: equal values, sorted rows, NaN, every size of k, both devices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vibetensor.torch as torch

CUDA = pytest.param("cuda", marks=pytest.mark.cuda)


def rows_of(kind: str, count: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    if kind == "random":
        return rng.standard_normal((count, n))
    if kind == "few values":
        return rng.integers(0, 3, (count, n)).astype(np.float64)
    if kind == "one value":
        return np.full((count, n), 2.0)
    if kind == "rising":
        return np.tile(np.arange(n) / 64.0, (count, 1))
    x = rng.standard_normal((count, n))
    x[:, :: max(n // 3, 1)] = np.nan
    x[:, 1 :: max(n // 4, 1)] = -np.inf
    return x


def check(x: Any, k: int, largest: bool) -> None:
    values, indices = x.topk(k, -1, largest)
    all_values, all_indices = x.sort(-1, largest)
    np.testing.assert_array_equal(
        values.to("cpu").double().numpy(), all_values[:, :k].to("cpu").double().numpy()
    )
    np.testing.assert_array_equal(indices.to("cpu").numpy(), all_indices[:, :k].to("cpu").numpy())


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "float64", "uint8"])
@pytest.mark.parametrize("kind", ["random", "few values", "one value", "rising", "nan"])
@pytest.mark.parametrize(
    ("n", "k"),
    [
        (1, 1),
        (7, 3),
        (100, 100),
        (1000, 50),
        (8192, 1000),
        (32768, 50),
        (2050, 1500),
        (4096, 1),
        (8192, 64),
        (12296, 7),
        (24000, 65),
        (30000, 64),
    ],
)
@pytest.mark.parametrize("largest", [True, False])
def test_is_the_start_of_a_stable_sort(
    device: str, dtype: str, kind: str, n: int, k: int, largest: bool
) -> None:
    data = rows_of(kind, 3, n)
    if dtype in ("int32", "uint8"):
        data = np.abs(np.nan_to_num(data, posinf=5, neginf=0)) * 10
    check(torch.tensor(data).to(getattr(torch, dtype)).to(device), k, largest)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(("n", "k"), [(4096, 64), (8200, 1), (32768, 50)])
def test_many_rows_of_every_kind_in_turns(dtype: str, n: int, k: int) -> None:
    """More rows than a GPU has room for at once; some have too many candidates."""
    kinds = ("random", "few values", "nan", "rising", "one value", "random")
    data = np.concatenate([rows_of(kind, 150, n) for kind in kinds])
    order = np.random.default_rng(k).permutation(len(data))
    check(torch.tensor(data[order]).to(getattr(torch, dtype)).cuda(), k, True)


def test_along_another_dimension_with_a_gradient() -> None:
    x = torch.tensor([[1.0, 5.0], [3.0, 2.0], [2.0, 9.0]], requires_grad=True)
    values, indices = x.topk(2, 0)
    assert values.tolist() == [[3.0, 9.0], [2.0, 5.0]]
    assert indices.tolist() == [[1, 2], [2, 0]]
    (values * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    assert x.grad.tolist() == [[0.0, 4.0], [1.0, 0.0], [3.0, 2.0]]
