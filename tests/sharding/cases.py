"""Operators with inputs for which their sharding rules are tried.

Each case is a function of tensors, plain or on the fabric. Sizes are even over four ranks where the
name does not say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import vibetensor.torch as torch

F = torch.nn.functional


class Case(NamedTuple):
    run: Callable[..., Any]
    inputs: list[Any]  # shapes of float32 inputs, or ("index", shape, below) or ("mask", shape)


CASES: dict[str, Case] = {
    "add": Case(lambda x, y: x + y, [(4, 8), (4, 8)]),
    "add broadcast": Case(lambda x, y: torch.add(x, y, alpha=0.5), [(4, 8), (8,)]),
    "add both broadcast": Case(lambda x, y: x + y, [(4, 1, 8), (3, 1)]),
    "add number": Case(lambda x: 2 + x - 3, [(4, 8)]),
    "sub uneven": Case(lambda x, y: x - y, [(5, 7), (5, 7)]),
    "mul": Case(lambda x, y: x * y, [(4, 8), (4, 8)]),
    "mul 0-d": Case(lambda x, y: x * y, [(4, 8), ()]),
    "scale": Case(lambda x: 3 * x / 2, [(4, 8)]),
    "div": Case(lambda x, y: x / (y * y + 1), [(4, 8), (4, 1)]),
    "neg": Case(lambda x: -x, [(4, 8)]),
    "exp": Case(torch.exp, [(4, 8)]),
    "pow": Case(lambda x: (x * x + 1) ** 1.5, [(6, 3)]),
    "gelu": Case(lambda x: F.gelu(x, approximate="tanh"), [(4, 8)]),
    "where": Case(torch.where, [("mask", (4, 8)), (4, 8), (8,)]),
    "where number": Case(lambda m, x: torch.where(m, x, 0.5), [("mask", (4, 8)), (4, 8)]),
    "masked_fill": Case(lambda x, m: x.masked_fill(m, 2.0), [(4, 8), ("mask", (4, 8))]),
    "maximum": Case(torch.maximum, [(4, 8), (4, 8)]),
    "addcmul": Case(lambda x, y, z: torch.addcmul(x, y, z, value=0.5), [(4, 8), (4, 8), (8,)]),
    "sum": Case(torch.sum, [(4, 8)]),
    "sum dim": Case(lambda x: x.sum(1), [(4, 8, 3)]),
    "sum keepdim": Case(lambda x: x.sum(dim=(0, 2), keepdim=True), [(4, 8, 3)]),
    "sum uneven": Case(lambda x: x.sum(0), [(5, 7)]),
    "sum as integers": Case(lambda x: x.sum(1, dtype=torch.int64).float(), [(4, 8)]),
    "mean": Case(torch.mean, [(4, 8)]),
    "mean dim": Case(lambda x: x.mean(-1, keepdim=True), [(4, 8)]),
    "mean uneven": Case(lambda x: x.mean(0), [(5, 7)]),
    "amax": Case(lambda x: x.amax(1), [(4, 8)]),
    "max dim": Case(lambda x: x.max(1).values, [(4, 8)]),
    "var": Case(lambda x: x.var(0), [(4, 8)]),
    "norm": Case(lambda x: x.norm(), [(4, 8)]),
    "norm uneven": Case(lambda x: x.norm(), [(5, 3)]),
    "logsumexp": Case(lambda x: x.logsumexp(1), [(4, 8)]),
    "cumsum": Case(lambda x: x.cumsum(1), [(4, 8)]),
    "sort": Case(lambda x: x.sort(1).values, [(4, 8)]),
    "topk": Case(lambda x: x.topk(3, dim=1).values, [(4, 8)]),
    "matmul": Case(lambda x, y: x @ y, [(4, 8), (8, 12)]),
    "matmul uneven": Case(lambda x, y: x @ y, [(5, 6), (6, 7)]),
    "matmul batches": Case(lambda x, y: x @ y, [(4, 8, 4), (4, 4, 8)]),
    "matmul broadcast": Case(lambda x, y: x @ y, [(4, 1, 8, 4), (3, 4, 8)]),
    "matmul weight": Case(lambda x, y: x @ y, [(4, 8, 4), (4, 8)]),
    "matmul vector": Case(lambda x, y: x @ y, [(4, 8), (8,)]),
    "vector matmul": Case(lambda x, y: x @ y, [(8,), (8, 4)]),
    "dot": Case(torch.dot, [(8,), (8,)]),
    "bmm": Case(torch.bmm, [(4, 3, 5), (4, 5, 2)]),
    "addmm": Case(lambda b, x, y: torch.addmm(b, x, y, beta=0.5), [(12,), (4, 8), (8, 12)]),
    "outer": Case(torch.outer, [(4,), (8,)]),
    "linear": Case(F.linear, [(2, 4, 8), (12, 8), (12,)]),
    "linear no bias": Case(F.linear, [(4, 8), (12, 8)]),
    "linear uneven": Case(F.linear, [(3, 6), (5, 6), (5,)]),
    "linear_gelu": Case(F.linear_gelu, [(4, 8), (12, 8), (12,)]),
    "softmax": Case(lambda x: F.softmax(x, dim=-1), [(4, 8)]),
    "log_softmax": Case(lambda x: F.log_softmax(x, dim=0), [(4, 8)]),
    "layer_norm": Case(lambda x, w, b: F.layer_norm(x, (8,), w, b), [(4, 4, 8), (8,), (8,)]),
    "layer_norm uneven": Case(lambda x, w: F.layer_norm(x, (8,), w), [(5, 8), (8,)]),
    "rms_norm": Case(lambda x, w: F.rms_norm(x, (8,), w), [(4, 4, 8), (8,)]),
    "add_layer_norm": Case(
        lambda x, y, w: sum(F.add_layer_norm(x, y, (8,), w)), [(4, 8), (4, 8), (8,)]
    ),
    "add_rms_norm": Case(
        lambda x, y, w: sum(F.add_rms_norm(x, y, (8,), w)), [(4, 8), (4, 8), (8,)]
    ),
    "swiglu": Case(F.swiglu, [(4, 8), (4, 8)]),
    "swiglu halves": Case(F.swiglu, [(4, 8)]),
    "geglu": Case(F.geglu, [(4, 8), (4, 8)]),
    "rope": Case(F.rope, [(4, 4, 8)]),
    "embedding": Case(F.embedding, [("index", (4, 8), 12), (12, 8)]),
    "embedding uneven": Case(F.embedding, [("index", (3, 5), 5), (5, 6)]),
    "cross_entropy": Case(F.cross_entropy, [(8, 12), ("index", (8,), 12)]),
    "cross_entropy uneven": Case(F.cross_entropy, [(6, 5), ("index", (6,), 5)]),
    "cross_entropy smoothed": Case(
        lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1, reduction="sum"),
        [(8, 12), ("index", (8,), 12)],
    ),
    "cross_entropy ignored": Case(
        lambda x, t: F.cross_entropy(x, t, ignore_index=1), [(8, 4), ("index", (8,), 4)]
    ),
    "cross_entropy rows": Case(
        lambda x, t: F.cross_entropy(x, t, reduction="none"), [(8, 4), ("index", (8,), 4)]
    ),
    "cross_entropy images": Case(F.cross_entropy, [(4, 8, 4), ("index", (4, 4), 8)]),
    "nll_loss": Case(
        lambda x, t: F.nll_loss(F.log_softmax(x, dim=1), t), [(8, 12), ("index", (8,), 12)]
    ),
    "mse_loss": Case(F.mse_loss, [(4, 8), (4, 8)]),
    "attention": Case(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), [(4, 4, 8, 4)] * 3
    ),
    "attention groups": Case(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        [(2, 8, 4, 4), (2, 4, 4, 4), (2, 4, 4, 4)],
    ),
    "attention mask": Case(
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m),
        [(4, 4, 3, 4), (4, 4, 5, 4), (4, 4, 5, 4), (3, 5)],
    ),
    "view split": Case(lambda x: x.view(4, 4, 2, 3), [(4, 8, 3)]),
    "view merge": Case(lambda x: x.view(-1, 3), [(4, 8, 3)]),
    "view uneven": Case(lambda x: x.view(5, 2, 3), [(5, 6)]),
    "view heads": Case(lambda x: x.view(2, 3, 4, 2).transpose(1, 2), [(2, 3, 8)]),
    "reshape ones": Case(lambda x: x.reshape(1, 4, 1, 8), [(4, 8)]),
    "flatten": Case(lambda x: x.flatten(1), [(4, 4, 3)]),
    "unflatten": Case(lambda x: x.unflatten(1, (4, -1)), [(4, 8)]),
    "transpose": Case(lambda x: x.transpose(0, 2), [(4, 3, 8)]),
    "t": Case(lambda x: x.t(), [(4, 8)]),
    "T": Case(lambda x: x.T, [(4, 8)]),
    "permute": Case(lambda x: x.permute(2, 0, 1), [(4, 3, 8)]),
    "movedim": Case(lambda x: torch.movedim(x, 0, 2), [(4, 3, 8)]),
    "expand": Case(lambda x: x.expand(3, 4, 8), [(4, 1)]),
    "unsqueeze": Case(lambda x: x.unsqueeze(1), [(4, 8)]),
    "squeeze": Case(lambda x: x.squeeze(), [(4, 1, 8)]),
    "squeeze narrow": Case(lambda x: x.squeeze(0), [(4, 8)]),
    "squeeze dim": Case(lambda x: x.squeeze(1), [(4, 1, 8)]),
    "select": Case(lambda x: x.select(1, 3), [(4, 8)]),
    "index": Case(lambda x: x[1:3, None, ..., 2], [(4, 3, 8)]),
    "narrow": Case(lambda x: x.narrow(1, 2, 4), [(4, 8)]),
    "unbind": Case(lambda x: x.unbind(1)[2], [(4, 8)]),
    "chunk": Case(lambda x: x.chunk(2, 1)[1], [(4, 8)]),
    "split": Case(lambda x: x.split([3, 5], 1)[1], [(4, 8)]),
    "split into many": Case(lambda x: x.split([1, 2] * 6, 1)[11], [(4, 18)]),
    "cat": Case(lambda x, y: torch.cat([x, y], 1), [(4, 8), (4, 4)]),
    "stack": Case(lambda x, y: torch.stack([x, y], 1), [(4, 8), (4, 8)]),
    "contiguous": Case(lambda x: x.t().contiguous(), [(4, 8)]),
    "clone": Case(lambda x: x.clone(), [(4, 8)]),
    "flip": Case(lambda x: x.flip(0), [(4, 8)]),
    "roll": Case(lambda x: x.roll(1, 1), [(4, 8)]),
    "tril": Case(lambda x: x.tril(), [(4, 4, 4)]),
    "index_select": Case(lambda x, i: x.index_select(1, i), [(4, 8), ("index", (4,), 8)]),
    "gather": Case(lambda x, i: x.gather(1, i), [(4, 8), ("index", (4, 4), 8)]),
    "to float64": Case(lambda x: x.double(), [(4, 8)]),
    "conv2d": Case(lambda x, w, b: F.conv2d(x, w, b), [(4, 3, 6, 6), (4, 3, 3, 3), (4,)]),
    "max_pool2d": Case(lambda x: F.max_pool2d(x, [2, 2]), [(4, 3, 6, 6)]),
}
