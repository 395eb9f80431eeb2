"""TransformerEncoder beside PyTorch's, and modules in a row that one kernel does."""

from __future__ import annotations

from typing import Any

import pytest
import torch as pt
from oracle import assert_close, copy_weights, to_vt

import vibetensor
import vibetensor.torch as vt
from vibetensor.profiler import ProfilerActivity, profile


def pair(**options: Any) -> tuple[Any, pt.nn.Module]:
    pt.manual_seed(0)
    theirs = pt.nn.TransformerEncoderLayer(16, 4, 32, **options)
    if callable(options.get("activation")):
        options["activation"] = vt.nn.GELU(approximate="tanh")
    ours = vt.nn.TransformerEncoderLayer(16, 4, 32, **options)
    copy_weights(theirs, ours)
    return ours, theirs


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu", pt.nn.GELU(approximate="tanh")])
@pytest.mark.parametrize("masked", ["no", "causal", "padding", "both", "added"])
def test_a_layer_is_torchs(
    norm_first: bool, batch_first: bool, activation: Any, masked: str
) -> None:
    ours, theirs = pair(
        dropout=0.0, activation=activation, norm_first=norm_first, batch_first=batch_first
    )
    x_pt = pt.randn(3, 5, 16, requires_grad=True)
    x_vt = to_vt(x_pt, requires_grad=True)
    length, batch = (5, 3) if batch_first else (3, 5)
    mask = padding = None
    if masked in ("causal", "both"):
        mask = pt.ones(length, length, dtype=pt.bool).triu(1)
    if masked in ("padding", "both"):
        padding = pt.zeros(batch, length, dtype=pt.bool)
        padding[1, -1] = True
    if masked == "added":
        mask, padding = pt.randn(length, length), pt.randn(batch, length)
    out_pt = theirs(x_pt, mask, padding)
    out_vt = ours(x_vt, *(None if each is None else to_vt(each) for each in (mask, padding)))
    assert_close(out_vt, out_pt, rtol=1e-4, atol=1e-5)
    out_pt.square().sum().backward()
    out_vt.square().sum().backward()
    assert_close(x_vt.grad, x_pt.grad, rtol=1e-3, atol=1e-4)
    for name, param in theirs.named_parameters():
        assert_close(dict(ours.named_parameters())[name].grad, param.grad, rtol=1e-3, atol=1e-4)


def test_layers_are_copies_and_the_norm_is_last() -> None:
    pt.manual_seed(1)
    norm = pt.nn.LayerNorm(16)
    theirs = pt.nn.TransformerEncoder(
        pt.nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True), 3, norm
    )
    ours = vt.nn.TransformerEncoder(
        vt.nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True), 3, vt.nn.LayerNorm(16)
    )
    copy_weights(theirs, ours)
    x = pt.randn(2, 6, 16)
    assert_close(ours(to_vt(x)), theirs(x), rtol=1e-4, atol=1e-5)
    mask = pt.nn.Transformer.generate_square_subsequent_mask(6)
    expected = theirs(x, mask, is_causal=True)
    assert_close(ours(to_vt(x), to_vt(mask), is_causal=True), expected, rtol=1e-4, atol=1e-5)
    assert_close(ours(to_vt(x), is_causal=True), expected, rtol=1e-4, atol=1e-5)
    first, second = ours.layers[0].linear1.weight, ours.layers[1].linear1.weight
    assert first.data_ptr() != second.data_ptr()


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_with_padding(average: bool, need_weights: bool) -> None:
    pt.manual_seed(2)
    theirs = pt.nn.MultiheadAttention(8, 2, batch_first=True)
    ours = vt.nn.MultiheadAttention(8, 2, batch_first=True)
    copy_weights(theirs, ours)
    x, memory = pt.randn(3, 4, 8), pt.randn(3, 5, 8)
    padding = pt.zeros(3, 5, dtype=pt.bool)
    padding[0, 3:] = True
    expected = theirs(x, memory, memory, padding, need_weights, average_attn_weights=average)
    found = ours(
        to_vt(x), *[to_vt(memory)] * 2, to_vt(padding), need_weights, average_attn_weights=average
    )
    assert_close(found[0], expected[0])
    assert (found[1] is None) == (expected[1] is None)
    if expected[1] is not None:
        assert_close(found[1], expected[1])


def test_weights_of_causal_attention_see_nothing_later() -> None:
    attention = vt.nn.MultiheadAttention(8, 2, batch_first=True)
    x = vt.randn(2, 4, 8)
    out, weights = attention(x, x, x, is_causal=True)
    assert weights.triu(1).abs().sum().item() == 0
    assert vt.allclose(out, attention(x, x, x, need_weights=False, is_causal=True)[0], atol=1e-6)


def seen(work: Any) -> list[str]:
    with profile(activities=[ProfilerActivity.CPU]) as prof:
        work()
    return [event.name for event in prof.events()]


def test_dropout_sum_and_norm_are_one_kernel_with_the_bits_of_three() -> None:
    layer = vt.nn.TransformerEncoderLayer(16, 4, 32, 0.3, batch_first=True)
    x = vt.randn(2, 6, 16)
    names = seen(lambda: layer(x))
    assert names.count("dropout_add_norm_rows") == 2 and "layer_norm_rows" not in names
    vt.manual_seed(4)
    expected = layer(x)
    layer.norm1.register_forward_hook(lambda *_: None)
    layer.dropout2.register_forward_hook(lambda *_: None)
    names = seen(lambda: layer(x))
    assert "dropout_add_norm_rows" not in names and names.count("layer_norm_rows") == 2
    vt.manual_seed(4)
    assert vt.equal(layer(x), expected)
    layer.eval()
    assert vt.equal(layer(x), layer(x))
    layer.norm1 = layer.norm2 = vt.nn.RMSNorm(16)
    layer.dropout2 = vt.nn.Dropout(0.1)
    assert seen(lambda: layer.train()(x)).count("dropout_add_norm_rows") == 2


def test_a_layer_and_gelu_in_a_row_are_one_product() -> None:
    vt.manual_seed(5)
    row = vt.nn.Sequential(
        vt.nn.Linear(8, 16), vt.nn.GELU(approximate="tanh"), vt.nn.Linear(16, 4), vt.nn.Linear(4, 3)
    )
    x = vt.randn(5, 8)
    names = seen(lambda: row(x))
    assert (
        names.count("linear_gelu_rows") == 1 and names.count("linear") == 2 and "gelu" not in names
    )
    apart = row[3](row[2](row[1](row[0](x))))
    assert vt.allclose(row(x), apart, rtol=1e-5, atol=1e-6)
    calls: list[int] = []
    row[1].register_forward_hook(lambda *_: calls.append(1))
    assert "linear_gelu_rows" not in seen(lambda: row(x)) and calls == [1]
    with_erf = vt.nn.Sequential(vt.nn.Linear(8, 16), vt.nn.GELU())
    assert "linear_gelu_rows" not in seen(lambda: with_erf(x))
    feed = vt.nn.TransformerEncoderLayer(8, 2, 16, activation=vt.nn.GELU(approximate="tanh"))
    assert "linear_gelu_rows" in seen(lambda: feed(vt.randn(2, 3, 8)))


@pytest.mark.cuda
def test_captured_steps_have_the_bits_of_eager_ones() -> None:
    def train(captured: bool) -> list[float]:
        vt.manual_seed(6)
        layer = vt.nn.TransformerEncoderLayer(
            64, 4, 128, 0.1, vt.nn.GELU(approximate="tanh"), batch_first=True, norm_first=True
        )
        encoder = vt.nn.TransformerEncoder(layer, 2, vt.nn.LayerNorm(64)).to("cuda")
        encoder.to(vt.bfloat16)
        optimizer = vt.optim.AdamW(encoder.parameters(), lr=1e-3)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = encoder(x, is_causal=True).float().square().mean()
            loss.backward()
            optimizer.step()
            return loss

        run = vibetensor.capture(step, strict=True) if captured else step
        data = [vt.randn(4, 32, 64, device="cuda").to(vt.bfloat16) for _ in range(6)]
        return [run(x).item() for x in data] + [
            p.float().sum().item() for p in encoder.parameters()
        ]

    assert train(True) == train(False) == train(True)


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match="'relu', 'gelu' or a function, not 'tanh'"):
        vt.nn.TransformerEncoderLayer(8, 2, activation="tanh")
    with pytest.raises(ValueError, match="not divisible"):
        vt.nn.TransformerEncoderLayer(8, 3)
