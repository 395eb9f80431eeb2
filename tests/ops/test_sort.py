"""sort against NumPy's stable one: rows that fit a block on a GPU and longer ones, ties, NaN."""

from __future__ import annotations

import numpy as np
import pytest

import vibetensor.torch as torch

CUDA = pytest.param("cuda", marks=pytest.mark.cuda)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "int32", "uint8"])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(
    "n",
    [
        1, 2, 63, 64, 65, 128, 200, 256, 257, 512, 513, 1000, 1024, 1025, 2048, 4095, 4096, 4097,
        8192, 8193, 16384, 20001, 32768, 32769,
    ],
)  # fmt: skip
def test_rows_are_sorted_and_equal_elements_keep_their_order(
    device: str, dtype: str, descending: bool, n: int
) -> None:
    rng = np.random.default_rng(n)
    x = rng.integers(0, 200, (5, n)).astype(dtype)
    if dtype.startswith("float"):
        x[0] = rng.standard_normal(n)
        x[1, :: max(n // 4, 1)] = np.nan
        x[2, :: max(n // 5, 1)] = -np.inf
    values, indices = torch.from_numpy(x).to(device).sort(-1, descending)
    # Backwards, sorted, backwards again: how a stable sort descends, with NaN first.
    if descending:
        order = n - 1 - np.argsort(x[:, ::-1], -1, kind="stable")[:, ::-1]
    else:
        order = np.argsort(x, -1, kind="stable")
    np.testing.assert_array_equal(indices.to("cpu").numpy(), order)
    np.testing.assert_array_equal(values.to("cpu").numpy(), np.take_along_axis(x, order, -1))


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16", "int32", "uint8"])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("shape", [(1, 1_300_001), (3, 500_001)], ids=str)
def test_many_keys_keep_what_their_values_are(
    shape: tuple[int, int], descending: bool, dtype: str
) -> None:
    """On a GPU as on the CPU, to the sign of each zero."""
    rng = np.random.default_rng(shape[0])
    x = rng.standard_normal(shape) * (10 if dtype[0] in "iu" else 1)
    if dtype[0] in "iu":
        x = np.abs(x)
    else:
        x[:, ::7], x[:, 3::7] = 0.0, -0.0
        x[:, 5::1000], x[:, 6::1000], x[:, 8::1000] = np.nan, np.inf, -np.inf
    given = torch.tensor(x).to(getattr(torch, dtype))
    values, indices = given.sort(-1, descending)
    found, places = given.cuda().sort(-1, descending)
    assert torch.equal(places.cpu(), indices)
    got, expected = (t.cpu().double().numpy() for t in (found, values))
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))
