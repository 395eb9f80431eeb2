"""Every operator of the table, in every element type and layout, with PyTorch as oracle."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch as pt
from operator_cases import (
    CASES,
    DTYPES,
    FLOATS,
    TABLE,
    VARIANTS,
    Case,
    assert_same,
    attempt,
    flat_results,
    sliced,
    supported,
    to_ours,
    to_torch,
)

import vibetensor.torch as vt

by_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
DETERMINISTIC = [c for c in CASES if "values" not in c.test]
by_fixed_case = pytest.mark.parametrize("case", DETERMINISTIC, ids=lambda c: c.id)


OPERATORS = {op.python_name for op in TABLE.ops} | {op.name for op in TABLE.ops} | {"index"}


def names(error: Exception, case: Case) -> bool:
    """Does the text start with the operator, or with the one that it is made of?"""
    first = re.match(r"\w+", str(error))
    return first is not None and (first[0] in OPERATORS or case.op.python_name in str(error))


def test_every_public_operator_has_a_case() -> None:
    missing = [op.name for op in TABLE.ops if op.places and "test" not in op.entry]
    assert not missing, f"operators without a `test:` entry in csrc/ops/table: {missing}"


def wide(t: Any) -> Any:
    return t.double() if isinstance(t, pt.Tensor) and t.dtype.is_floating_point else t


def picked(results: Any, x: pt.Tensor, case: Case) -> list[pt.Tensor]:
    """Among equal elements any index is right: what it picks is compared."""
    found = [to_torch(r) for r in flat_results(results)]
    return [
        x.gather(case.kwargs.get("dim", -1), r) if r.dtype == pt.int64 and x.dim() else r
        for r in found[-1:]
    ]


def pairs(cases: list[Case], variants: tuple[str, ...]) -> Any:
    """Each case in each layout that fits it."""
    chosen = [(c, v) for c in cases for v in variants if c.shapes(v) is not None]
    return pytest.mark.parametrize(
        ("case", "variant"), chosen, ids=[f"{c.id}-{v}" for c, v in chosen]
    )


@pairs(DETERMINISTIC, VARIANTS)
def test_forward(case: Case, variant: str) -> None:
    ran = 0
    for dtype in DTYPES if variant not in ("special", "large") else FLOATS:
        given = case.arguments(dtype, variant)
        mine = [to_ours(t) for t in given]  # before torch may change them in place
        theirs, refusal = attempt(case.torch, given, case.kwargs)
        ours, error = attempt(case.ours, mine, case.kwargs)
        promised = supported(case.op, dtype)
        if refusal is None and error is not None:
            assert promised is not True, f"{case.id} {dtype}: {error}"
            assert names(error, case), f"the error does not name the operator: {error}"
        elif refusal is None:
            if case.test.get("ties"):
                ours, theirs = picked(ours, given[0], case), picked(theirs, given[0], case)
            try:
                assert_same(case, dtype, ours, theirs)
            except AssertionError:  # torch may round after each addition
                if variant != "large" or dtype not in ("float16", "bfloat16"):
                    raise
                exact = flat_results(case.torch([wide(t) for t in given], case.kwargs))
                assert_same(
                    case,
                    dtype,
                    ours,
                    [e.to(t.dtype) for e, t in zip(exact, flat_results(theirs), strict=True)],
                )
            ran += 1
        elif error is None:
            assert variant != "plain" or not isinstance(refusal, IndexError), (
                f"torch refuses: {refusal}"
            )
    if variant == "plain":
        assert ran > 0, "no type works"


DIFFERENTIABLE = [
    c for c in DETERMINISTIC if c.op.differentiable and c.tensors and not c.op.mutates
]


@pairs(DIFFERENTIABLE, ("plain", "empty", "zero_dim", "broadcast", "transposed", "sliced"))
def test_backward(case: Case, variant: str) -> None:
    for dtype in FLOATS if variant == "plain" else FLOATS[:2]:
        check_backward(case, variant, dtype)


def check_backward(case: Case, variant: str, dtype: str) -> None:
    given = case.arguments(dtype, variant)
    for t in given:
        if isinstance(t, pt.Tensor) and t.dtype.is_floating_point:
            t.requires_grad_()
    theirs, refusal = attempt(case.torch, given, case.kwargs)
    if refusal is not None:
        return
    leaves = [to_ours(t, isinstance(t, pt.Tensor) and t.requires_grad) for t in given]
    ours = flat_results(case.ours(leaves, case.kwargs))
    yours = flat_results(theirs)
    graded = [(a, b) for a, b in zip(ours, yours, strict=True) if b.requires_grad]
    generator = pt.Generator().manual_seed(1)
    seeds = [
        pt.randn(b.shape, generator=generator, dtype=pt.float64).to(b.dtype) for _, b in graded
    ]
    _, refusal = attempt(lambda a, _: pt.autograd.backward(*a), [[b for _, b in graded], seeds], {})
    if not graded or refusal is not None:  # torch has no gradient here
        return
    vt.autograd.backward([a for a, _ in graded], [to_ours(s) for s in seeds])
    for leaf, t in zip(leaves, given, strict=True):
        if isinstance(t, pt.Tensor) and t.requires_grad and t.grad is not None:
            assert leaf.grad is not None
            assert_same(case, dtype, leaf.grad, t.grad, factor=4.0)


def scalar_of(case: Case, arguments: list[Any], seeds: list[pt.Tensor]) -> float:
    total = 0.0
    for result, seed in zip(flat_results(case.ours(arguments, case.kwargs)), seeds, strict=True):
        if to_torch(result).dtype.is_floating_point:
            total += float((to_torch(result) * seed).sum())
    return total


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=lambda c: c.id)
def test_gradient_is_the_slope(case: Case) -> None:
    given = case.arguments("float64", "plain")
    leaves = [to_ours(t, isinstance(t, pt.Tensor) and t.dtype.is_floating_point) for t in given]
    results = flat_results(case.ours(leaves, case.kwargs))
    generator = pt.Generator().manual_seed(2)
    seeds = [pt.randn(list(r.shape), generator=generator, dtype=pt.float64) for r in results]
    with_grad = [(r, s) for r, s in zip(results, seeds, strict=True) if r.requires_grad]
    vt.autograd.backward([r for r, _ in with_grad], [to_ours(s) for _, s in with_grad])
    step = 1e-6
    for position, t in enumerate(given):
        if not isinstance(t, pt.Tensor) or not t.dtype.is_floating_point:
            continue
        slope = pt.zeros(t.numel(), dtype=pt.float64)
        for i in range(t.numel()):
            sides = []
            for sign in (1, -1):
                moved = t.clone()
                moved.view(-1)[i] += sign * step
                arguments = [
                    to_ours(moved if k == position else other) for k, other in enumerate(given)
                ]
                sides.append(scalar_of(case, arguments, seeds))
            slope[i] = (sides[0] - sides[1]) / (2 * step)
        grad = leaves[position].grad
        found = pt.zeros_like(slope) if grad is None else to_torch(grad).flatten()
        pt.testing.assert_close(found, slope, rtol=1e-5, atol=1e-6)


POINTWISE = [c for c in DETERMINISTIC if c.op.kind == "pointwise"]


@pytest.mark.parametrize(
    "case", [c for c in POINTWISE if "torch" in c.op.places], ids=lambda c: c.id
)
def test_out(case: Case) -> None:
    for dtype in DTYPES:
        given = case.arguments(dtype, "plain")
        theirs, refusal = attempt(case.torch, given, case.kwargs)
        if refusal is not None or supported(case.op, dtype) is False:
            continue
        if not (dtype in FLOATS or case.op.entry["over"] != "float"):
            continue
        for place in (pt.empty_like(theirs), sliced(pt.zeros_like(theirs))):
            out = to_ours(place)
            assert case.ours([to_ours(t) for t in given], {**case.kwargs, "out": out}) is out
            assert_same(case, dtype, out, theirs)


@pytest.mark.parametrize("variant", ["plain", "transposed", "sliced", "empty"])
@pytest.mark.parametrize(
    "case", [c for c in CASES if c.op.entry.get("inplace")], ids=lambda c: c.id
)
def test_inplace(case: Case, variant: str) -> None:
    name = f"{case.op.python_name}_"

    def change(arguments: list[Any], kwargs: dict[str, Any]) -> Any:
        return getattr(arguments[0], name)(*arguments[1:], **kwargs)

    for dtype in DTYPES:
        given = case.arguments(dtype, variant)
        kept = [t.clone() if isinstance(t, pt.Tensor) else t for t in given]
        mine = [to_ours(t) for t in given]
        _, refusal = attempt(change, given, case.kwargs)
        result, error = attempt(change, mine, case.kwargs)
        if refusal is None and (dtype in FLOATS or supported(case.op, dtype)):
            assert error is None, f"{dtype}: {error}"
        if refusal is None and error is None:
            assert result is mine[0]
            assert_same(case, dtype, mine[0], given[0])
        elif error is not None:  # nothing is lost
            assert_same(case, dtype, mine[0], kept[0])


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.op.entry.get("inplace") and c.op.differentiable],
    ids=lambda c: c.id,
)
def test_inplace_backward(case: Case) -> None:
    name = f"{case.op.python_name}_"
    given = case.arguments("float64", "plain")
    for t in given:
        if isinstance(t, pt.Tensor) and t.dtype.is_floating_point:
            t.requires_grad_()
    leaves = [to_ours(t, isinstance(t, pt.Tensor) and t.requires_grad) for t in given]

    def run(arguments: list[Any]) -> Any:
        x = arguments[0] * 1.0
        return (getattr(x, name)(*arguments[1:], **case.kwargs) * 2.0).sum()

    run(given).backward()
    run(leaves).backward()
    for leaf, t in zip(leaves, given, strict=True):
        if isinstance(t, pt.Tensor) and t.requires_grad:
            assert_same(case, "float64", leaf.grad, t.grad)


@by_fixed_case
def test_threads_do_not_change_a_bit(case: Case) -> None:
    before = vt.get_num_threads()
    for dtype in ("float32", "bfloat16"):
        given = case.arguments(dtype, "large") or case.arguments(dtype, "plain")
        results = []
        for threads in (1, 3):
            vt.set_num_threads(threads)
            try:
                ours, error = attempt(case.ours, [to_ours(t) for t in given], case.kwargs)
            finally:
                vt.set_num_threads(before)
            if error is not None:
                continue
            results.append([to_torch(r) for r in flat_results(ours)])
        for a, b in zip(*results, strict=True) if len(results) == 2 else ():
            if isinstance(a, pt.Tensor):
                assert pt.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))


@pytest.mark.parametrize("case", [c for c in CASES if "values" in c.test], ids=lambda c: c.id)
def test_values_of_its_own(case: Case) -> None:
    """Random operators: torch's types and shapes, the same bits for a seed, then others."""
    given = case.arguments("float32", "plain")
    theirs = flat_results(
        case.torch([t.clone() if isinstance(t, pt.Tensor) else t for t in given], case.kwargs)
    )
    runs = []
    for seed in (3, 3, 4):
        vt.manual_seed(seed)
        for _ in range(2):
            results = flat_results(case.ours([to_ours(t) for t in given], case.kwargs))
            for a, b in zip(results, theirs, strict=True):
                assert to_torch(a).dtype == b.dtype and a.shape == tuple(b.shape)
            runs.append([to_torch(r) for r in results])
    if case.test["values"] == "random":
        assert pt.equal(runs[0][0], runs[2][0]) and pt.equal(runs[1][0], runs[3][0])
        assert not pt.equal(runs[0][0], runs[1][0]) and not pt.equal(runs[0][0], runs[4][0])


# --- bad arguments ---


def common_type(case: Case) -> str:
    return "int32" if case.op.entry.get("over") == "int" else "float32"


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if len(c.tensors) >= 2 and c.test.get("devices") != "any"],
    ids=lambda c: c.id,
)
def test_tensors_of_two_devices_are_refused(case: Case, two_cpu_devices: None) -> None:
    given = [to_ours(t) for t in case.arguments(common_type(case), "plain")]
    last = max(i for i, t in enumerate(given) if isinstance(t, vt.Tensor))
    given[last] = given[last].to("cpu:1")
    with pytest.raises(RuntimeError, match="device") as failure:
        case.ours(given, case.kwargs)
    assert names(failure.value, case), str(failure.value)
    assert "cpu:0" in str(failure.value) and "cpu:1" in str(failure.value)


@pytest.mark.parametrize("case", [c for c in POINTWISE if len(c.tensors) >= 2], ids=lambda c: c.id)
def test_shapes_that_do_not_broadcast_are_refused(case: Case) -> None:
    given = [to_ours(t) for t in case.arguments(common_type(case), "plain")]
    last = max(i for i, t in enumerate(given) if isinstance(t, vt.Tensor))
    given[last] = given[last][:, :4]
    with pytest.raises(RuntimeError) as failure:
        case.ours(given, case.kwargs)
    text = str(failure.value)
    assert names(failure.value, case) and "[3, 5]" in text and "[3, 4]" in text, text


@pytest.mark.parametrize("case", [c for c in CASES if c.tensors], ids=lambda c: c.id)
def test_a_wrong_type_is_a_type_error_that_shows_the_signature(case: Case) -> None:
    given = [to_ours(t) for t in case.arguments("float32", "plain")]
    holder = (
        vt
        if "torch" in case.op.places
        else vt.nn.functional
        if "nn.functional" in case.op.places
        else vt.Tensor
    )
    call = getattr(holder, case.op.python_name)
    for wrong in (object(), {}):
        with pytest.raises(TypeError) as failure:
            call(wrong, *given[1:], **case.kwargs)
        assert holder is vt.Tensor or case.op.python_name in str(failure.value)
    with pytest.raises(TypeError) as failure:
        case.ours(given, {**case.kwargs, "no_such_argument": 1})
    assert case.op.python_name in str(failure.value) and "no_such_argument" in str(failure.value)


# --- the same on a GPU ---


@pytest.mark.cuda
@pairs(DETERMINISTIC, VARIANTS)
def test_cuda_forward(case: Case, variant: str) -> None:
    for dtype in DTYPES if variant != "special" else FLOATS:
        given = case.arguments(dtype, variant)
        here, refusal = attempt(case.ours, [to_ours(t) for t in given], case.kwargs)
        # Brought back inside the attempt: a kernel's error shows when the host waits for it.
        there, error = attempt(
            lambda *a: _torch_results(case.ours(*a)),
            [on_gpu(to_ours(t)) for t in given],
            on_gpu_kwargs(case),
        )
        if refusal is not None and not case.test.get("inputs"):
            continue
        assert (refusal is None) == (error is None), f"{dtype}: cpu: {refusal}, cuda: {error}"
        if error is None:
            assert_same(case, dtype, there, _torch_results(here))


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=lambda c: c.id)
def test_cuda_backward(case: Case, dtype: str) -> None:
    given = case.arguments(dtype, "plain")
    sides = []
    for move in (lambda t: t, on_gpu):
        leaves = [move(to_ours(t)) for t in given]
        for leaf, t in zip(leaves, given, strict=True):
            if isinstance(t, pt.Tensor) and t.dtype.is_floating_point:
                leaf.requires_grad_()
        results = [r for r in flat_results(case.ours(leaves, case.kwargs)) if r.requires_grad]
        generator = pt.Generator().manual_seed(1)
        seeds = [
            move(to_ours(pt.randn(list(r.shape), generator=generator).to(to_torch(r).dtype)))
            for r in results
        ]
        if results:
            vt.autograd.backward(results, seeds)
        sides.append([leaf.grad for leaf in leaves if isinstance(leaf, vt.Tensor)])
    for a, b in zip(*sides, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert_same(case, dtype, b, to_torch(a), factor=4.0)


@pytest.mark.cuda
@pytest.mark.parametrize(
    "case", [c for c in CASES if c.test.get("values") == "random"], ids=lambda c: c.id
)
def test_cuda_draws_the_numbers_of_the_cpu(case: Case) -> None:
    given = case.arguments("float32", "plain")
    vt.manual_seed(11)
    here = case.ours([to_ours(t) for t in given], case.kwargs)
    vt.manual_seed(11)
    there = case.ours([on_gpu(to_ours(t)) for t in given], on_gpu_kwargs(case))
    assert_same(case, "float32", there, _torch_results(here))


def on_gpu(t: Any) -> Any:
    """On the GPU with the same strides: views depend on them."""
    if not isinstance(t, vt.Tensor):
        return t
    length = 1 + sum((n - 1) * step for n, step in zip(t.shape, t.stride(), strict=True))
    if t.numel() == 0:
        return t.to("cuda")
    memory = t.detach().as_strided([length], [1], t.storage_offset()).to("cuda")
    made = memory.as_strided(list(t.shape), list(t.stride()), 0)
    return made.detach().requires_grad_() if t.requires_grad else made


def on_gpu_kwargs(case: Case) -> dict[str, Any]:
    return {**case.kwargs, "device": "cuda"} if case.op.entry.get("factory") else case.kwargs


def _torch_results(result: Any) -> Any:
    return [to_torch(r) for r in flat_results(result)]
