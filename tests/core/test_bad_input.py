"""What a mistaken call says: torch's exception, and a text with the operator and the values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch as pt

import vibetensor
import vibetensor.torch as vt
from vibetensor import _C


@pytest.fixture(autouse=True, scope="module")
def two_devices() -> None:
    if _C.device_count("cpu") < 2:
        vibetensor.set_cpu_devices(2)


F = "nn.functional"

# The call with the library as `m`; the exception; pieces that its text must contain.
BOTH: dict[str, tuple[Callable[..., object], tuple[str, ...]]] = {
    "add shapes": (lambda m: m.ones(2, 3) + m.ones(4), ("add", "[2, 3]", "[4]")),
    "add in place shapes": (lambda m: m.ones(3).add_(m.ones(2, 3)), ("add", "[3]", "[2, 3]")),
    "mul dtype in place": (
        lambda m: m.ones(3, dtype=m.int64).mul_(1.5),
        ("mul", "int64", "float32"),
    ),
    "div integer in place": (lambda m: m.ones(3, dtype=m.int64).div_(2), ("int64", "float32")),
    "out dtype": (
        lambda m: m.add(m.ones(3), 1, out=m.ones(3, dtype=m.int64)),
        ("add", "int64", "float32"),
    ),
    "matmul shapes": (
        lambda m: m.ones(2, 3) @ m.ones(4, 5),
        ("matmul", "[2, 3]", "[4, 5]", "3 vs 4"),
    ),
    "matmul dtypes": (
        lambda m: m.ones(2, 3) @ m.ones(3, 2, dtype=m.float64),
        ("matmul", "f32", "f64"),
    ),
    "matmul scalar": (lambda m: m.ones(2, 3) @ m.tensor(1.0), ("matmul", "1D")),
    "bmm batch": (
        lambda m: m.bmm(m.ones(2, 3, 4), m.ones(3, 4, 5)),
        ("bmm", "[2, 3, 4]", "[3, 4, 5]"),
    ),
    "mm rank": (lambda m: m.mm(m.ones(2), m.ones(2)), ("mm", "[2]")),
    "linear shapes": (
        lambda m: m.nn.functional.linear(m.ones(2, 3), m.ones(5, 4)),
        ("linear", "[2, 3]", "[5, 4]"),
    ),
    "view": (lambda m: m.ones(2, 3).view(4, 2), ("view", "[4, 2]", "6")),
    "view of strides": (lambda m: m.ones(2, 3).t().view(6), ("view", "reshape")),
    "reshape two unknown": (
        lambda m: m.ones(2, 3).reshape(-1, -1),
        ("reshape", "only one dimension"),
    ),
    "reshape": (lambda m: m.ones(2, 3).reshape(4, -1), ("reshape", "[4, -1]", "6")),
    "permute": (lambda m: m.ones(2, 3).permute(0, 0), ("permute", "repeated")),
    "permute rank": (lambda m: m.ones(2, 3).permute(0, 1, 2), ("permute", "[0, 1, 2]")),
    "transpose": (lambda m: m.ones(2, 3).transpose(0, 2), ("[-2, 1]", "2")),
    "sum dim": (lambda m: m.ones(2, 3).sum(2), ("sum", "[-2, 1]", "2")),
    "sum dim twice": (lambda m: m.ones(2, 3).sum([0, 0]), ("multiple times",)),
    "mean of integers": (lambda m: m.ones(2, dtype=m.int64).mean(), ("mean", "floating point")),
    "softmax of integers": (lambda m: m.softmax(m.ones(2, dtype=m.int64), 0), ("softmax",)),
    "argmax of nothing": (lambda m: m.ones(0).argmax(), ("argmax",)),
    "max of an empty dim": (lambda m: m.ones(2, 0).max(1), ("max",)),
    "amax of nothing": (lambda m: m.ones(0).amax(), ("amax",)),
    "expand": (lambda m: m.ones(2, 3).expand(2, 4), ("expand", "4", "3")),
    "squeeze dim": (lambda m: m.ones(2, 1).squeeze(5), ("5", "[-2, 1]")),
    "cat shapes": (lambda m: m.cat([m.ones(2, 3), m.ones(2, 4)]), ("cat", "[2, 3]", "[2, 4]")),
    "cat nothing": (lambda m: m.cat([]), ("cat",)),
    "cat ranks": (lambda m: m.cat([m.ones(2, 3), m.ones(2, 3, 1)]), ("cat", "2", "3")),
    "stack shapes": (lambda m: m.stack([m.ones(2), m.ones(3)]), ("stack", "[2]", "[3]")),
    "split sizes": (lambda m: m.ones(5).split([2, 2]), ("split", "5", "[2, 2]")),
    "many split sizes": (
        lambda m: m.ones(60).split([3] * 19),
        ("split", "60", "[3, 3, 3, 3,", "19 in all"),
    ),
    "negative split size": (lambda m: m.ones(5).split([6, -1]), ("split", "negative", "[6, -1]")),
    "chunk": (lambda m: m.ones(5).chunk(0), ("chunk", "0")),
    "narrow": (lambda m: m.ones(5).narrow(0, 3, 4), ("narrow", "3", "4", "5")),
    "select": (lambda m: m.ones(5).select(0, 5), ("select", "5")),
    "index": (lambda m: m.ones(5)[7], ("7", "5")),
    "index negative": (lambda m: m.ones(2, 5)[0, -6], ("-6", "5")),
    "too many indices": (lambda m: m.ones(5)[0, 0], ("too many indices", "1")),
    "index of a number": (lambda m: m.tensor(1.0)[0], ("0-dim",)),
    "index tensor": (lambda m: m.ones(5)[m.tensor([0, 9])], ("5",)),
    "index float": (lambda m: m.ones(5)[m.tensor([0.5])], ("indices",)),
    "mask shape": (lambda m: m.ones(5)[m.ones(4) > 0], ("[4]", "[5]")),
    "setitem shape": (lambda m: m.ones(5).__setitem__(slice(0, 2), m.ones(3)), ("[2]", "3")),
    "index_select": (lambda m: m.ones(5).index_select(0, m.tensor([5])), ("index_select", "5")),
    "index_select dtype": (
        lambda m: m.ones(5).index_select(0, m.tensor([0.0])),
        ("index_select", "int"),
    ),
    "gather": (lambda m: m.ones(2, 2).gather(0, m.tensor([[2, 0]])), ("gather", "2")),
    "gather rank": (lambda m: m.ones(2, 2).gather(0, m.tensor([0])), ("gather", "dimensions")),
    "scatter": (lambda m: m.ones(3).scatter(0, m.tensor([3]), m.ones(1)), ("scatter", "3")),
    "embedding": (lambda m: m.nn.functional.embedding(m.tensor([7]), m.ones(5, 2)), ("7",)),
    "embedding dtype": (
        lambda m: m.nn.functional.embedding(m.tensor([1.0]), m.ones(5, 2)),
        ("embedding", "int"),
    ),
    "embedding negative": (
        lambda m: m.nn.functional.embedding(m.tensor([-1]), m.ones(5, 2)),
        ("-1",),
    ),
    "cross entropy class": (
        lambda m: m.nn.functional.cross_entropy(m.ones(2, 3), m.tensor([0, 3])),
        ("3",),
    ),
    "cross entropy rows": (
        lambda m: m.nn.functional.cross_entropy(m.ones(2, 3), m.tensor([0])),
        ("cross_entropy",),
    ),
    "cross entropy reduction": (
        lambda m: m.nn.functional.cross_entropy(
            m.ones(2, 3), m.tensor([0, 1]), reduction="average"
        ),
        ("average",),
    ),
    "layer norm shape": (
        lambda m: m.nn.functional.layer_norm(m.ones(2, 3), [4]),
        ("layer_norm", "[4]", "[2, 3]"),
    ),
    "dropout": (lambda m: m.nn.functional.dropout(m.ones(3), 1.5), ("1.5",)),
    "negative size": (lambda m: m.zeros(2, -3), ("-3",)),
    "negative empty": (lambda m: m.empty(-1), ("-1",)),
    "negative full": (lambda m: m.full((-2,), 1.0), ("-2",)),
    "arange step": (lambda m: m.arange(0, 5, 0), ("step",)),
    "arange direction": (lambda m: m.arange(5, 0), ("5", "0")),
    "arange too long": (lambda m: m.arange(0, 1e30), ()),
    "linspace": (lambda m: m.linspace(0, 1, -1), ("-1",)),
    "randint": (lambda m: m.randint(5, 5, (2,)), ("5",)),
    "multinomial": (lambda m: m.multinomial(m.ones(3), 4), ("4",)),
    "bernoulli": (lambda m: m.bernoulli(m.ones(3), 1.5), ("1.5",)),
    "item of many": (lambda m: m.ones(2).item(), ("2",)),
    "bool of many": (lambda m: bool(m.ones(2)), ("ambiguous",)),
    "len of a number": (lambda m: len(m.tensor(1.0)), ("0-d",)),
    "iteration over a number": (lambda m: list(m.tensor(1.0)), ("0-d",)),
    "device type": (lambda m: m.device("gpu"), ("gpu",)),
    "device without a colon": (lambda m: m.device("cuda0"), ("cuda0",)),
    "device number": (lambda m: m.device("cuda:x"), ("cuda:x",)),
    "device of a new tensor": (lambda m: m.ones(2, device="gpu"), ("gpu",)),
    "missing argument": (lambda m: m.add(m.ones(2)), ("add", "other")),
    "unknown argument": (lambda m: m.add(m.ones(2), 1, beta=2), ("add", "beta")),
    "not a tensor": (lambda m: m.matmul(m.ones(2), "x"), ("matmul", "str")),
    "list of numbers where tensors belong": (lambda m: m.cat([1, 2]), ("cat",)),
    "size of a wrong type": (lambda m: m.zeros("3"), ("zeros", "str")),
    "ragged list": (lambda m: m.tensor([[1, 2], [3]]), ("2", "1")),
    "bitwise of floats": (lambda m: m.ones(2) & m.ones(2), ("bitwise_and", "float32")),
    "minus of bools": (
        lambda m: m.ones(2, dtype=m.bool) - m.ones(2, dtype=m.bool),
        ("sub", "bool"),
    ),
    "negative bool": (lambda m: -m.ones(2, dtype=m.bool), ("neg", "bool")),
    "integer division by zero": (lambda m: m.ones(2, dtype=m.int64) // 0, ()),
    "where condition": (lambda m: m.where(m.ones(2), 1.0, 2.0), ("where", "bool")),
    "masked_fill mask": (lambda m: m.ones(2).masked_fill(m.ones(2), 0), ("masked_fill", "bool")),
    "gelu flag": (lambda m: m.nn.functional.gelu(m.ones(2), approximate="fast"), ("gelu", "fast")),
    "div rounding": (lambda m: m.div(m.ones(2), 2, rounding_mode="up"), ("div", "up")),
    "as_strided": (lambda m: m.ones(4).as_strided((3, 3), (3, 1)), ("[3, 3]",)),
    "topk": (lambda m: m.ones(3).topk(4), ("topk", "4")),
    "one_hot": (lambda m: m.nn.functional.one_hot(m.tensor([0.5])), ("one_hot",)),
    "int8 range": (lambda m: m.ones(2).view("x"), ("view", "str")),
    "unflatten": (lambda m: m.ones(6).unflatten(0, (4, 2)), ("unflatten", "[4, 2]", "6")),
    "writing to an expanded tensor": (
        lambda m: m.ones(1).expand(3).add_(1),
        ("add", "single memory location"),
    ),
    "copying to one": (lambda m: m.ones(1).expand(3).copy_(m.ones(3)), ("single memory location",)),
    "tril of a vector": (lambda m: m.ones(3).tril(), ("tril", "2")),
    "diagonal": (lambda m: m.ones(3, 3).diagonal(0, 1, 1), ("diagonal", "1")),
}


@pytest.mark.parametrize("name", BOTH)
def test_the_exception_is_torchs_and_names_the_values(name: str) -> None:
    call, pieces = BOTH[name]
    with pytest.raises(Exception) as theirs:
        call(pt)
    with pytest.raises(Exception) as ours:
        call(vt)
    # Ours may be a subclass; a RuntimeError of torch may be a more telling type here.
    wanted: tuple[type[BaseException], ...] = (theirs.type,)
    if theirs.type is RuntimeError:
        wanted += (IndexError, ValueError, NotImplementedError)
    if theirs.type is NotImplementedError:
        wanted += (RuntimeError,)
    assert issubclass(ours.type, wanted), (
        f"{ours.type.__name__}, torch: {theirs.type.__name__}: {ours.value}"
    )
    text = str(ours.value)
    for piece in pieces:
        assert piece in text, f"{piece!r} is not in: {text}"


OURS: dict[str, tuple[Callable[[], object], type[BaseException], tuple[str, ...]]] = {
    "a device that does not exist": (
        lambda: vt.ones(2, device="cuda:9"),
        RuntimeError,
        ("cuda:9",),
    ),
    "a CPU device that does not exist": (
        lambda: vt.ones(2, device="cpu:60"),
        RuntimeError,
        ("cpu:60",),
    ),
    "a device beyond all": (lambda: vt.ones(2, device="cpu:64"), RuntimeError, ("64",)),
    "moving to a device that does not exist": (
        lambda: vt.ones(2).to("cuda:9"),
        RuntimeError,
        ("cuda:9",),
    ),
    "two devices": (
        lambda: vt.ones(2) + vt.ones(2, device="cpu:1"),
        RuntimeError,
        ("add", "cpu:0", "cpu:1"),
    ),
    "two devices in a product": (
        lambda: vt.ones(2, 2) @ vt.ones(2, 2, device="cpu:1"),
        RuntimeError,
        ("matmul", "cpu:0", "cpu:1"),
    ),
    "two devices in cat": (
        lambda: vt.cat([vt.ones(2), vt.ones(2, device="cpu:1")]),
        RuntimeError,
        ("cat", "cpu:1"),
    ),
    "two devices in an index": (
        lambda: vt.ones(5).index_select(0, vt.zeros(2, dtype=vt.int64, device="cpu:1")),
        RuntimeError,
        ("index_select", "cpu:1"),
    ),
    "out on another device": (
        lambda: vt.add(vt.ones(2), 1, out=vt.ones(2, device="cpu:1")),
        RuntimeError,
        ("add", "cpu:1"),
    ),
    "too many dimensions": (lambda: vt.ones(*[1] * 9), RuntimeError, ("8",)),
    "more elements than any memory": (
        lambda: vt.empty(1 << 40, 1 << 40),
        RuntimeError,
        ("elements",),
    ),
    "more memory than there is": (lambda: vt.empty(1 << 50), vt.OutOfMemoryError, ()),
    "slices that go backwards": (lambda: vt.ones(5)[::-1], ValueError, ("step", "-1")),
    "no CUDA": (
        lambda: vt.ones(2).cuda() if not vt.cuda.is_available() else vt.ones(2, device="cuda:63"),
        RuntimeError,
        ("CUDA",),
    ),
    "tensor of strings": (lambda: vt.tensor(["a"]), TypeError, ("str",)),
    "two numbers in front of where": (lambda: vt.where(1, 2, 3), TypeError, ("where",)),
}


@pytest.mark.parametrize("name", OURS)
def test_errors_that_are_this_runtimes_own(name: str) -> None:
    call, kind, pieces = OURS[name]
    with pytest.raises(kind) as failure:
        call()
    for piece in pieces:
        assert piece.lower() in str(failure.value).lower(), str(failure.value)


def test_a_failed_change_in_place_changes_nothing() -> None:
    x = vt.arange(5)
    for change in (
        lambda: x.add_(1.5),
        lambda: x.add_(vt.ones(7, dtype=vt.int64)),
        lambda: x.__setitem__(9, 1),
        lambda: x.__setitem__(vt.tensor([0, 9]), 1),
        lambda: x.copy_(vt.ones(3)),
    ):
        with pytest.raises((RuntimeError, IndexError)):
            change()
    assert x.tolist() == [0, 1, 2, 3, 4]
