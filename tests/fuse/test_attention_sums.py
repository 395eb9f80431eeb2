"""Gradients of biases in front of attention come out of the kernel of attention's gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import vibetensor.torch as torch
from vibetensor import fuse

nn, F = torch.nn, torch.nn.functional
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
NAME = "attention_sums"


def attend(parts: list[torch.Tensor], heads: int, width: int, causal: bool = True) -> torch.Tensor:
    """From [batch, tokens, heads * width] each, of query, key and value, to the like."""
    split = [p.view(*p.shape[:2], -1, width).transpose(1, 2) for p in parts]
    if split[1].shape[1] != heads:
        out = F.scaled_dot_product_attention(*split, is_causal=causal, enable_gqa=True)
    else:
        out = F.scaled_dot_product_attention(*split, is_causal=causal)
    return out.transpose(1, 2).flatten(2)


def values(tensors: list[torch.Tensor]) -> list[np.ndarray]:
    return [t.detach().double().cpu().numpy() for t in tensors]


def work_of(
    device: str,
    dtype: torch.dtype,
    sizes: tuple[int, int, int, int, int],
    packed: bool,
    causal: bool = True,
) -> Callable[..., list[torch.Tensor]]:
    """Gradients of the biases and weights of the layers in front of attention, and to `kept` those
    of what they make; sizes: batch, heads, those of keys, tokens and features of a head."""
    batch, heads, kv_heads, tokens, width = sizes
    torch.manual_seed(0)
    widths = [heads * width, kv_heads * width, kv_heads * width]
    layers = [nn.Linear(32, w) for w in ([sum(widths)] if packed else widths)]
    layers = [layer.to(device).to(dtype) for layer in layers]
    x = torch.randn(batch, tokens, 32, device=device).to(dtype)
    grad = torch.randn(batch, tokens, heads * width, device=device).to(dtype)

    def work(kept: list[torch.Tensor] | None = None) -> list[torch.Tensor]:
        for layer in layers:
            layer.weight.grad = layer.bias.grad = None
        made = [layer(x) for layer in layers]
        if kept is not None:
            for t in made:
                t.retain_grad()
        parts = list(made[0].split(widths, dim=-1)) if packed else made
        attend(parts, heads, width, causal).backward(grad)
        if kept is not None:
            kept += [t.grad for t in made]
        return [p.grad for layer in layers for p in (layer.bias, layer.weight)]

    return work


# On a GPU the kernels made here take 16-bit floats and at least 256 tokens.
def sizes_on(device: str, heads: int, kv_heads: int) -> tuple[int, int, int, int, int]:
    return (2, heads, kv_heads, *((24, 8) if device == "cpu" else (320, 64)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kv_heads", [3, 1])
def test_sums_join_attentions_gradients(device: str, packed: bool, kv_heads: int) -> None:
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    work = work_of(device, dtype, sizes_on(device, 3, kv_heads), packed)
    expected = values(work())
    with fuse.recording() as made:
        found = values(work())
    joined = 1 if packed else 3
    assert made.report.rewrites[NAME] == joined and "reduce" not in made.report.alone
    assert made.report.alone["attention_backward"] == 1
    unit = 2.0**-6 if dtype == torch.bfloat16 else 2.0**-18
    # Sums are judged beside the size of what is summed: that of keys is nothing but roundings, as
    # softmax does not change when a number is added to all scores of a query.
    kept: list[torch.Tensor] = []
    work(kept)
    terms = [np.sqrt((t.reshape(-1, t.shape[-1]) ** 2).sum(0)).max() for t in values(kept)]
    for i, (f, e) in enumerate(zip(found, expected, strict=True)):
        size = np.abs(e).max() if i % 2 else terms[i // 2]
        np.testing.assert_allclose(f, e, rtol=unit, atol=unit * size)
    with fuse.recording({NAME: False}) as made:
        found = values(work())
    assert NAME not in made.report.rewrites
    assert all(f.tobytes() == e.tobytes() for f, e in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    "what", ["part", "rows", "mean", "float64", "read before", "changed before", "twice"]
)
def test_other_sums_stay_where_they_are(what: str) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(2, 24, 24).requires_grad_() for _ in range(3)]
    x = torch.randn(24, dtype=torch.float32)

    def work() -> list[torch.Tensor]:
        out = attend(parts, 3, 8)
        target = torch.zeros(24)
        dq, dk, dv = torch.autograd.grad(out.sum(), parts)
        seen = torch.zeros(24)
        if what == "part":
            sums = dq[:, :7].sum((0, 1))
        elif what == "rows":
            sums = dq.sum(-1)
        elif what == "mean":
            sums = dq.mean((0, 1))
        elif what == "float64":
            sums = torch.sum(dq, (0, 1), dtype=torch.float64)
        elif what == "read before":
            seen = target + x
            target.copy_(dq.sum((0, 1)))
            sums = target
        elif what == "changed before":
            dq.mul_(2.0)
            sums = dq.sum((0, 1))
        else:
            sums, seen = dq.sum((0, 1)), dq.sum((0, 1))
        return [sums, seen, dq, dk, dv]

    expected = values(work())
    with fuse.recording() as made:
        found = values(work())
    assert made.report.rewrites.get(NAME, 0) == int(what == "twice")
    assert made.report.rewrites.get("copies", 0) == int(what == "read before")
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-5, atol=1e-5)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("tokens", [256, 257, 600])
@pytest.mark.parametrize("causal", [True, False])
def test_sums_are_those_of_float64(
    dtype: torch.dtype, width: int, tokens: int, causal: bool
) -> None:
    batch, heads = 3, 2
    columns = 3 * heads * width
    torch.manual_seed(0)
    x = torch.randn(batch, tokens, columns, device="cuda").to(dtype)
    grad = torch.randn(batch, tokens, heads * width, device="cuda").to(dtype)
    eye = torch.eye(columns, device="cuda").to(dtype)
    bias = torch.zeros(columns, device="cuda", dtype=dtype).requires_grad_()

    def sums() -> torch.Tensor:
        whole = F.linear(x, eye, bias)
        return torch.autograd.grad(
            attend(list(whole.chunk(3, -1)), heads, width, causal), bias, grad
        )[0]

    runs = []
    for _ in range(2):
        with fuse.recording() as made:
            runs.append(sums())
        assert made.report.rewrites[NAME] == 1
    assert torch.equal(*runs)
    found = runs[0].double().cpu().numpy()

    exact = x.double().requires_grad_()
    out = attend(list(exact.chunk(3, -1)), heads, width, causal)
    each = torch.autograd.grad(out, exact, grad.double())[0].cpu().numpy().reshape(-1, columns)
    # Terms are rounded, and their sum; those of keys cancel.
    for part in np.split(np.arange(columns), 3):
        terms = each[:, part]
        error = np.mean((found[part] - terms.sum(0)) ** 2)
        size = np.mean((terms**2).sum(0) + terms.sum(0) ** 2)
        assert np.sqrt(error / size) < (0.01 if dtype == torch.bfloat16 else 0.0015)
