"""Every layer and loss gives PyTorch's output and gradients from the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch as pt
from oracle import assert_close, copy_weights, to_vt

import vibetensor.torch as vt

Make = Callable[[Any], Any]

LAYERS: dict[str, tuple[Make, tuple[int, ...]]] = {
    "Linear": (lambda nn: nn.Linear(4, 5), (3, 4)),
    "Linear without bias": (lambda nn: nn.Linear(4, 5, bias=False), (2, 3, 4)),
    "Linear of a vector": (lambda nn: nn.Linear(4, 5), (4,)),
    "Linear of nothing": (lambda nn: nn.Linear(4, 5), (0, 4)),
    "LayerNorm": (lambda nn: nn.LayerNorm(6), (2, 5, 6)),
    "LayerNorm of two dims": (lambda nn: nn.LayerNorm((3, 4)), (2, 3, 4)),
    "LayerNorm without bias": (lambda nn: nn.LayerNorm(6, bias=False), (2, 6)),
    "LayerNorm without affine": (lambda nn: nn.LayerNorm(6, elementwise_affine=False), (2, 6)),
    "RMSNorm": (lambda nn: nn.RMSNorm(6, eps=1e-6), (2, 5, 6)),
    "RMSNorm default eps": (lambda nn: nn.RMSNorm(6), (2, 6)),
    "ReLU": (lambda nn: nn.ReLU(), (3, 4)),
    "GELU": (lambda nn: nn.GELU(), (3, 4)),
    "GELU tanh": (lambda nn: nn.GELU(approximate="tanh"), (3, 4)),
    "SiLU": (lambda nn: nn.SiLU(), (3, 4)),
    "Tanh": (lambda nn: nn.Tanh(), (3, 4)),
    "Sigmoid": (lambda nn: nn.Sigmoid(), (3, 4)),
    "Softmax": (lambda nn: nn.Softmax(dim=-1), (3, 4)),
    "LogSoftmax": (lambda nn: nn.LogSoftmax(dim=0), (3, 4)),
    "Conv2d": (lambda nn: nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 7, 6)),
    "Conv2d in groups": (lambda nn: nn.Conv2d(4, 6, (3, 2), dilation=(1, 2), groups=2), (4, 6, 7)),
    "Conv2d of patches": (lambda nn: nn.Conv2d(3, 8, 2, stride=2, bias=False), (2, 3, 4, 6)),
    "Conv1d": (lambda nn: nn.Conv1d(3, 5, 3, padding=1), (2, 3, 9)),
    "MaxPool2d": (lambda nn: nn.MaxPool2d(2), (2, 3, 6, 5)),
    "MaxPool2d overlapping": (lambda nn: nn.MaxPool2d(3, 2, 1), (3, 7, 8)),
    "AvgPool2d": (lambda nn: nn.AvgPool2d((2, 3), padding=1), (2, 3, 6, 7)),
    "Identity": (lambda nn: nn.Identity(7, unused=1), (3, 4)),
    "Flatten": (lambda nn: nn.Flatten(), (2, 3, 4)),
    "Flatten some": (lambda nn: nn.Flatten(0, 1), (2, 3, 4)),
    "Dropout of nothing": (lambda nn: nn.Dropout(0.0), (3, 4)),
    "Sequential": (
        lambda nn: nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2)),
        (3, 4),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str) -> None:
    make, shape = LAYERS[name]
    pt.manual_seed(0)
    theirs, ours = make(pt.nn), make(vt.nn)
    copy_weights(theirs, ours)
    x_pt = pt.randn(shape, requires_grad=True)
    x_vt = to_vt(x_pt, requires_grad=True)
    out_pt, out_vt = theirs(x_pt), ours(x_vt)
    assert_close(out_vt, out_pt)
    weight = pt.randn(out_pt.shape)
    (out_pt * weight).sum().backward()
    (out_vt * to_vt(weight)).sum().backward()
    assert_close(x_vt.grad, x_pt.grad)
    for (key, a), (other, b) in zip(
        ours.named_parameters(), theirs.named_parameters(), strict=True
    ):
        assert key == other
        assert_close(a.grad, b.grad)


@pytest.mark.parametrize("name", LAYERS)
def test_layer_reads_as_in_torch(name: str) -> None:
    make, _ = LAYERS[name]
    assert repr(make(vt.nn)) == repr(make(pt.nn)).replace(", inplace=False", "")


def test_embedding() -> None:
    theirs, ours = pt.nn.Embedding(10, 4), vt.nn.Embedding(10, 4)
    copy_weights(theirs, ours)
    index = pt.tensor([[1, 2, 1], [9, 0, 1]])
    out_pt, out_vt = theirs(index), ours(to_vt(index))
    assert_close(out_vt, out_pt)
    out_pt.square().sum().backward()
    out_vt.square().sum().backward()
    assert_close(ours.weight.grad, theirs.weight.grad)


def test_embedding_out_of_range_is_an_index_error() -> None:
    with pytest.raises(IndexError, match="10"):
        vt.nn.Embedding(10, 4)(vt.tensor([3, 10]))


LOSSES: dict[str, tuple[Make, str]] = {
    "cross entropy": (lambda nn: nn.CrossEntropyLoss(), "classes"),
    "cross entropy sum": (lambda nn: nn.CrossEntropyLoss(reduction="sum"), "classes"),
    "cross entropy none": (lambda nn: nn.CrossEntropyLoss(reduction="none"), "classes"),
    "cross entropy smoothed": (lambda nn: nn.CrossEntropyLoss(label_smoothing=0.1), "classes"),
    "cross entropy ignoring": (lambda nn: nn.CrossEntropyLoss(ignore_index=2), "classes"),
    "nll": (lambda nn: nn.NLLLoss(), "classes"),
    "mse": (lambda nn: nn.MSELoss(), "values"),
    "mse sum": (lambda nn: nn.MSELoss(reduction="sum"), "values"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name: str) -> None:
    make, kind = LOSSES[name]
    pt.manual_seed(1)
    x_pt = pt.randn(6, 5, requires_grad=True)
    x_vt = to_vt(x_pt, requires_grad=True)
    target = pt.randint(0, 5, (6,)) if kind == "classes" else pt.randn(6, 5)
    loss_pt, loss_vt = make(pt.nn)(x_pt, target), make(vt.nn)(x_vt, to_vt(target))
    assert_close(loss_vt, loss_pt)
    loss_pt.sum().backward()
    loss_vt.sum().backward()
    assert_close(x_vt.grad, x_pt.grad)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_multihead_attention(batch_first: bool, masked: bool, need_weights: bool) -> None:
    pt.manual_seed(2)
    theirs = pt.nn.MultiheadAttention(8, 2, batch_first=batch_first)
    ours = vt.nn.MultiheadAttention(8, 2, batch_first=batch_first)
    copy_weights(theirs, ours)
    x_pt = pt.randn(3, 5, 8, requires_grad=True)
    x_vt = to_vt(x_pt, requires_grad=True)
    length = 5 if batch_first else 3
    mask = pt.ones(length, length, dtype=pt.bool).triu(1) if masked else None
    out_pt, weights_pt = theirs(x_pt, x_pt, x_pt, need_weights=need_weights, attn_mask=mask)
    out_vt, weights_vt = ours(
        x_vt, x_vt, x_vt, need_weights=need_weights, attn_mask=to_vt(mask) if masked else None
    )
    assert_close(out_vt, out_pt)
    assert (weights_vt is None) == (weights_pt is None)
    if weights_pt is not None:
        assert_close(weights_vt, weights_pt)
    out_pt.square().sum().backward()
    out_vt.square().sum().backward()
    assert_close(x_vt.grad, x_pt.grad, rtol=1e-4, atol=1e-5)
    assert_close(ours.in_proj_weight.grad, theirs.in_proj_weight.grad, rtol=1e-4, atol=1e-5)


def test_dropout_scales_what_it_keeps() -> None:
    vt.manual_seed(3)
    layer = vt.nn.Dropout(0.25)
    out = layer(vt.ones(1000))
    kept = out.tolist()
    assert all(value == 0 or abs(value - 1 / 0.75) < 1e-6 for value in kept)
    assert 0.65 < sum(value > 0 for value in kept) / 1000 < 0.85
    assert layer.eval()(vt.ones(5)).tolist() == [1.0] * 5


def test_relu_in_place() -> None:
    x = vt.tensor([-1.0, 2.0])
    vt.nn.ReLU(inplace=True)(x)
    assert x.tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: vt.nn.Dropout(1.5), ValueError, "between 0 and 1"),
        (lambda: vt.nn.MultiheadAttention(8, 3), ValueError, "not divisible"),
        (lambda: vt.nn.Linear(4, 5)(vt.ones(3, 3)), RuntimeError, r"linear.*3.*4"),
        (lambda: vt.nn.Module()(1), NotImplementedError, 'missing the required "forward"'),
    ],
)
def test_wrong_use_is_explained(make: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()
