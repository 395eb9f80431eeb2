"""Attention against PyTorch in float64: layouts, masks, shared heads, derivatives, determinism."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as oracle
import vibetensor.torch.nn.functional as F
from same_numbers import numbers, ours, rounded

import vibetensor.torch as torch

CUDA = pytest.param("cuda", marks=pytest.mark.cuda)
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 6e-3, "bfloat16": 4e-2}


def assert_near(actual: Any, wanted: oracle.Tensor, dtype: str) -> None:
    scale = max(1.0, float(wanted.detach().abs().max()))
    error = np.abs(numbers(actual) - wanted.detach().numpy()).max()
    assert error <= TOLERANCE[dtype] * scale, f"{error} beyond {TOLERANCE[dtype] * scale}"


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("batch", "heads", "shared", "queries", "keys", "width"),
    [
        (2, 3, 3, 17, 17, 16),
        (2, 4, 4, 130, 130, 32),
        (1, 4, 2, 33, 33, 64),
        (2, 2, 1, 24, 40, 8),
        (1, 2, 2, 40, 9, 20),
        (3, 1, 1, 1, 5, 64),
        (2, 2, 2, 300, 300, 64),
        (2, 4, 4, 80, 80, 32),
        (2, 2, 2, 128, 128, 64),
        (1, 4, 2, 100, 128, 24),
        (1, 4, 1, 128, 70, 40),
    ],
)
def test_forward_and_backward(
    device: str,
    dtype: str,
    causal: bool,
    batch: int,
    heads: int,
    shared: int,
    queries: int,
    keys: int,
    width: int,
) -> None:
    oracle.manual_seed(queries)
    q = rounded(batch, heads, queries, width, dtype=dtype)
    k = rounded(batch, shared, keys, width, dtype=dtype)
    v = rounded(batch, shared, keys, width, dtype=dtype)
    grad = rounded(batch, heads, queries, width, dtype=dtype)
    for t in (q, k, v):
        t.requires_grad_()
    options = {"is_causal": causal, "enable_gqa": heads != shared}
    wanted = oracle.nn.functional.scaled_dot_product_attention(q, k, v, **options)
    wanted.backward(grad)
    a, b, c = (ours(t, device, dtype) for t in (q, k, v))
    out = F.scaled_dot_product_attention(a, b, c, **options)
    out.backward(ours(grad, device, dtype, grad=False))
    assert_near(out, wanted, dtype)
    for actual, reference in ((a, q), (b, k), (c, v)):
        assert reference.grad is not None
        assert_near(actual.grad, reference.grad, dtype)


def project(x: Any, heads: int, how: str) -> list[Any]:
    """Query, key and value [batch, heads, tokens, width] out of x [batch, tokens, 3 * channels]."""
    batch, tokens, channels = x.shape[0], x.shape[1], x.shape[2] // 3
    width = channels // heads
    if how == "unbind":
        return list(x.view(batch, tokens, 3, heads, width).permute(2, 0, 3, 1, 4).unbind(0))
    pieces = x.split(channels, 2) if how == "split" else x.chunk(3, -1)
    return [piece.view(batch, tokens, heads, width).transpose(1, 2) for piece in pieces]


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("how", ["split", "chunk", "unbind"])
@pytest.mark.parametrize("tokens", [20, 200])
def test_chunks_of_one_projection(device: str, dtype: str, how: str, tokens: int) -> None:
    oracle.manual_seed(tokens)
    x = rounded(2, tokens, 3 * 64, dtype=dtype).requires_grad_()
    grad = rounded(2, tokens, 64, dtype=dtype)
    q, k, v = project(x, 4, how)
    wanted = oracle.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    wanted = wanted.transpose(1, 2).reshape(2, tokens, 64)
    wanted.backward(grad)
    y = ours(x, device, dtype)
    out = F.scaled_dot_product_attention(*project(y, 4, how), is_causal=True)
    out = out.transpose(1, 2).reshape(2, tokens, 64)
    out.backward(ours(grad, device, dtype, grad=False))
    assert_near(out, wanted, dtype)
    assert x.grad is not None
    assert_near(y.grad, x.grad, dtype)


@pytest.mark.parametrize("how", ["split", "unbind"])
def test_gradients_of_chunks_lie_in_one_block(how: str) -> None:
    x = torch.randn(2, 6, 3 * 32).requires_grad_(True)
    grads: dict[int, Any] = {}
    whole: list[Any] = []
    y = x * 1
    y.register_hook(whole.append)
    pieces = project(y, 4, how)
    for i, piece in enumerate(pieces):
        piece.register_hook(lambda grad, i=i: grads.update({i: grad}))
    out = F.scaled_dot_product_attention(*pieces)
    out.sum().backward()
    start = whole[0].data_ptr()
    assert whole[0].is_contiguous()
    assert [grads[i].data_ptr() - start for i in range(3)] == [0, 32 * 4, 64 * 4]


def test_attention_gives_memory_in_the_order_of_the_query() -> None:
    q = torch.randn(2, 6, 4, 8).transpose(1, 2)
    out = F.scaled_dot_product_attention(q, q, q)
    assert out.transpose(1, 2).is_contiguous()


def test_second_derivative() -> None:
    oracle.manual_seed(0)
    tensors = [oracle.randn(1, 2, 5, 4, dtype=oracle.float64, requires_grad=True) for _ in range(3)]

    def second(lib: Any, parts: list[Any], call: Any) -> list[Any]:
        out = call(*parts, is_causal=True)
        first = lib.autograd.grad((out * out).sum(), parts, create_graph=True)
        total = sum((g * g).sum() for g in first)
        return list(lib.autograd.grad(total, parts))

    # PyTorch's fused kernel on the CPU has no second derivative either.
    with oracle.nn.attention.sdpa_kernel(oracle.nn.attention.SDPBackend.MATH):
        wanted = second(oracle, tensors, oracle.nn.functional.scaled_dot_product_attention)
    actual = second(
        torch, [ours(t, "cpu", "float64") for t in tensors], F.scaled_dot_product_attention
    )
    for a, w in zip(actual, wanted, strict=True):
        np.testing.assert_allclose(numbers(a), w.numpy(), atol=1e-10)


def test_shared_heads_must_divide() -> None:
    q, k = torch.randn(1, 3, 4, 8), torch.randn(1, 2, 4, 8)
    with pytest.raises(RuntimeError, match="multiple"):
        F.scaled_dot_product_attention(q, k, k, enable_gqa=True)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("tokens", [128, 1000])
def test_two_runs_give_the_same_bits(dtype: str, tokens: int) -> None:
    kind = getattr(torch, dtype)
    x = torch.randn(4, tokens, 3 * 256, device="cuda").to(kind)

    def run() -> Any:
        y = x.detach().requires_grad_(True)
        out = F.scaled_dot_product_attention(*project(y, 4, "split"), is_causal=True)
        out.square().sum().backward()
        return y.grad

    first = run()
    for _ in range(5):
        assert torch.equal(first, run())


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("batch", "heads", "shared", "queries", "keys", "width"),
    [
        (2, 3, 3, 256, 256, 64),
        (1, 2, 2, 257, 257, 64),
        (1, 2, 2, 1000, 1000, 64),
        (1, 40, 40, 512, 512, 64),
        (1, 4, 2, 700, 333, 64),
        (1, 4, 1, 300, 520, 64),
        (2, 2, 2, 256, 256, 128),
        (1, 2, 2, 1000, 1000, 128),
        (1, 4, 2, 333, 700, 128),
    ],
)
def test_gradients_of_long_sequences(
    dtype: str,
    causal: bool,
    batch: int,
    heads: int,
    shared: int,
    queries: int,
    keys: int,
    width: int,
) -> None:
    """Relative to the size of each gradient: with many keys all of them are small. Twice, with the
    same bits."""
    oracle.manual_seed(queries + width)
    q = rounded(batch, queries, heads, width, dtype=dtype).transpose(1, 2)
    kv = rounded(batch, keys, 2, shared, width, dtype=dtype)
    k, v = (kv[:, :, i].transpose(1, 2) for i in range(2))
    grad = rounded(batch, heads, queries, width, dtype=dtype)
    options = {"is_causal": causal, "enable_gqa": heads != shared}
    exact = [t.detach().clone().requires_grad_() for t in (q, k, v)]
    wanted = oracle.nn.functional.scaled_dot_product_attention(*exact, **options)
    wanted.backward(grad)

    packed = ours(kv, "cuda", dtype, grad=False)
    mine = [
        ours(q.transpose(1, 2), "cuda", dtype, grad=False).transpose(1, 2),
        *(packed[:, :, i].transpose(1, 2) for i in range(2)),
    ]
    mine = [t.detach().requires_grad_(True) for t in mine]
    out_grad = ours(grad, "cuda", dtype, grad=False)

    def run() -> list[Any]:
        out = F.scaled_dot_product_attention(*mine, **options)
        return list(torch.autograd.grad(out, mine, out_grad))

    first = run()
    for actual, reference in zip(first, exact, strict=True):
        assert reference.grad is not None
        error = numbers(actual) - reference.grad.numpy()
        size = np.sqrt((reference.grad.numpy() ** 2).mean())
        assert np.sqrt((error**2).mean()) <= TOLERANCE[dtype] / 4 * size
        assert np.abs(error).max() <= TOLERANCE[dtype] * max(1.0, np.abs(numbers(actual)).max())
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first, run(), strict=True))


@pytest.mark.cuda
@pytest.mark.parametrize("width", [64, 128])
def test_gradients_where_scores_are_far_below_zero(width: int) -> None:
    """Weights of keys past the end would be infinite, and infinity times a zero is no number."""
    tokens = 300
    q = torch.full((1, 1, tokens, width), 8.0, device="cuda", dtype=torch.bfloat16)
    parts = [q, -q, torch.randn(1, 1, tokens, width, device="cuda").to(torch.bfloat16)]
    parts = [t.requires_grad_(True) for t in parts]
    out = F.scaled_dot_product_attention(*parts)
    for grad in torch.autograd.grad(out, parts, torch.ones_like(out)):
        assert np.isfinite(numbers(grad)).all()


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_query_shared_by_all_heads(device: str, dtype: str) -> None:
    q, k, v = (rounded(1, h, 4, 8, dtype=dtype) for h in (1, 2, 2))
    wanted = oracle.nn.functional.scaled_dot_product_attention(q.expand(1, 2, 4, 8), k, v)
    mine = [ours(x, device, dtype, grad=False) for x in (q, k, v)]
    found = F.scaled_dot_product_attention(mine[0].expand(1, 2, 4, 8), mine[1], mine[2])
    assert_near(found, wanted, dtype)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_fewer_queries_than_keys_out_of_one_projection(device: str, dtype: str) -> None:
    packed = rounded(1, 6, 3 * 2, 8, dtype=dtype)

    def pooled(x: Any, lib: Any) -> Any:
        q, k, v = (part.transpose(1, 2) for part in x.split(2, 2))
        return lib.scaled_dot_product_attention(q[:, :, :1], k, v)

    exact = packed.clone().requires_grad_()
    wanted = pooled(exact, oracle.nn.functional)
    wanted.sum().backward()
    mine = ours(packed, device, dtype)
    found = pooled(mine, F)
    found.sum().backward()
    assert_near(found, wanted, dtype)
    assert exact.grad is not None
    assert_near(mine.grad, exact.grad, dtype)


INF = float("inf")


def with_infinities(case: str, tokens: int, width: int) -> tuple[list[oracle.Tensor], Any]:
    """Query, key, value and a mask, of float32 numbers."""
    oracle.manual_seed(tokens + width)
    q, k, v = (rounded(2, 2, tokens, width, dtype="float32") for _ in range(3))
    q[..., 0] = q[..., 0].abs() + 0.1
    mask = None
    if case == "first keys":  # of which queries see nothing, some of them because of the mask
        k[:, :, :8, 0] = -INF
    elif case == "all keys of a head":
        k[1, 1, :, 0] = -INF
    elif case == "query":
        q[:, :, 3, 1] = INF
    elif case == "key":
        k[0, 1, 5, 0] = INF
    elif case == "value":
        v[:, :, 0, 2] = INF
        v[:, :, 0, 3] = -INF
    elif case == "large":  # finite, but not in pieces of 16 bits
        v[:, :, 2, 1] = 3.4e38
    else:
        mask = oracle.zeros(tokens, tokens, dtype=oracle.float64)
        mask[2] = -INF
        mask[5, :9] = -INF
        mask = mask if case == "mask of numbers" else mask == 0
    return [q, k, v], mask


def causal_by_definition(tensors: list[oracle.Tensor], grad: float) -> list[np.ndarray]:
    """Output and gradients of query, key and value, one query after the other over the keys that it
    sees; what it does not see takes no part, not even times 0."""
    query, key, value = (t.detach().numpy() for t in tensors)
    out = np.zeros_like(query)
    grads = [np.zeros_like(t) for t in (query, key, value)]
    for *head, row in np.ndindex(query.shape[:-1]):
        at, seen = (*head, row), (*head, slice(row + 1))
        q, k, v = query[at], key[seen], value[seen]
        scores = k @ q * len(q) ** -0.5
        p = np.exp(scores - scores.max())
        p /= p.sum()
        p = np.zeros_like(p) if (scores == -INF).all() else p
        out[at] = p @ v
        of_p = v.sum(1) * grad
        of_scores = p * (of_p - p @ of_p) * len(q) ** -0.5
        grads[0][at] = of_scores @ k
        grads[1][seen] += np.outer(of_scores, q)
        grads[2][seen] += (p * grad)[:, None]
    return [out, *grads]


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("tokens", "width"), [(20, 16), (50, 64), (130, 32), (70, 80)])
@pytest.mark.parametrize(
    "case",
    [
        "first keys",
        "all keys of a head",
        "query",
        "key",
        "value",
        "large",
        "mask",
        "mask of numbers",
    ],
)
def test_infinities(
    case: str, tokens: int, width: int, causal: bool, dtype: str, device: str
) -> None:
    """NaN where PyTorch's definition has it, and nowhere else: a query that sees nothing gives
    zeros, and what it does not see gets no gradient of it. Under a causal mask PyTorch multiplies
    infinities that a query does not see by 0, so the definition is written out. Kernels do so, too,
    within a block of queries and keys, for the gradients of the other side of their product: those
    may be NaN where PyTorch's are.
    """
    tensors, mask = with_infinities(case, tokens, width)
    if mask is not None and causal:
        pytest.skip("a mask and is_causal exclude each other")
    options = {"attn_mask": mask, "is_causal": causal}
    for t in tensors:
        t.requires_grad_()
    with oracle.nn.attention.sdpa_kernel(oracle.nn.attention.SDPBackend.MATH):
        wanted = oracle.nn.functional.scaled_dot_product_attention(*tensors, **options)
        wanted.backward(oracle.full_like(wanted, 2.0**-10))
    references = theirs = [wanted.detach().numpy(), *(t.grad.numpy() for t in tensors)]
    if causal and case in ("query", "key", "value"):
        with np.errstate(invalid="ignore", over="ignore"):
            references = causal_by_definition(tensors, 2.0**-10)
    mine = [ours(t, device, dtype) for t in tensors]
    if mask is not None:
        plain = torch.tensor(mask.numpy())
        options["attn_mask"] = (
            plain if mask.dtype == oracle.bool else plain.to(getattr(torch, dtype))
        ).to(device)
    out = F.scaled_dot_product_attention(*mine, **options)
    out.backward(torch.full_like(out, 2.0**-10))  # what is large is still finite times a key
    results = [out, *(t.grad for t in mine)]
    for name, actual, expected, other in zip(
        ("out", "dq", "dk", "dv"), results, references, theirs, strict=True
    ):
        got = numbers(actual)
        if causal and (case, name) in (("query", "dk"), ("key", "dq")):
            expected = np.where(np.isnan(got) & np.isnan(other), got, expected)
        finite = np.isfinite(expected)
        np.testing.assert_array_equal(got[~finite], expected[~finite], name)
        size = max(1e-3, np.abs(expected[finite]).max(initial=0))
        np.testing.assert_allclose(got[finite], expected[finite], atol=2e-5 * size, err_msg=name)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_second_derivative_with_a_mask(device: str) -> None:
    oracle.manual_seed(3)
    parts = [rounded(1, 2, 6, 8, dtype="float32") for _ in range(3)]
    mask = oracle.ones(6, 6, dtype=oracle.bool).tril()
    mask[0] = False

    def second(lib: Any, given: list[Any], mask: Any) -> list[Any]:
        out = lib.nn.functional.scaled_dot_product_attention(*given, attn_mask=mask)
        first = lib.autograd.grad((out * out).sum(), given, create_graph=True)
        return list(lib.autograd.grad(sum((g * g).sum() for g in first), given))

    with oracle.nn.attention.sdpa_kernel(oracle.nn.attention.SDPBackend.MATH):
        wanted = second(oracle, [t.requires_grad_() for t in parts], mask)
    actual = second(
        torch, [ours(t, device, "float64") for t in parts], torch.tensor(mask.numpy()).to(device)
    )
    for mine, reference in zip(actual, wanted, strict=True):
        np.testing.assert_allclose(numbers(mine), reference.numpy(), rtol=1e-9, atol=1e-12)
