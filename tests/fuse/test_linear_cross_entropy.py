"""Losses in the product that makes their logits: where the pass applies, and its numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vibetensor.torch as torch
from vibetensor import _C, fuse

nn, F = torch.nn, torch.nn.functional

NAME = "linear_cross_entropy"
OFF = {NAME: False}
UNITS = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-8, torch.float64: 2.0**-52}
Step = Callable[[], list[torch.Tensor]]


def values(tensors: list[torch.Tensor]) -> list[np.ndarray]:
    return [t.detach().double().cpu().numpy() for t in tensors]


def run(step: Step, passes: Any = True) -> tuple[list[np.ndarray], fuse.Report]:
    with fuse.recording(passes) as made:
        found = step()
    assert made.report is not None and made.report.failure == ""
    return values(found), made.report


def check(step: Step, dtype: torch.dtype, times: int = 1) -> list[np.ndarray]:
    """Found so often, and near the numbers that come without the pass."""
    expected, without = run(step, OFF)
    assert NAME not in without.rewrites
    found, report = run(step)
    assert report.rewrites.get(NAME, 0) == times
    again, _ = run(step)
    for f, e, a in zip(found, expected, again, strict=True):
        near = 16 * UNITS[dtype]
        np.testing.assert_allclose(f, e, rtol=near, atol=near * max(np.abs(e).max(), 1e-30))
        assert f.tobytes() == a.tobytes()
    if times == 0:
        assert all(f.tobytes() == e.tobytes() for f, e in zip(found, expected, strict=True))
    return found


def numbers(*sizes: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*sizes).to(dtype)


def labels(rows: int, classes: int) -> torch.Tensor:
    target = torch.randint(0, classes, (rows,))
    target[rows // 2] = -100
    return target


def exact(x: np.ndarray, w: np.ndarray, target: np.ndarray, mean: bool = True) -> list[np.ndarray]:
    """Loss and gradients of x and w in float64; rows of target -100 do not count."""
    logits = x @ w.T
    counted = target >= 0
    each = np.exp(logits - logits.max(1, keepdims=True))
    p = each / each.sum(1, keepdims=True)
    rows = np.flatnonzero(counted)
    loss = -np.log(p[rows, target[rows]]).sum()
    p[rows, target[rows]] -= 1
    p[~counted] = 0
    share = 1 / counted.sum() if mean else 1.0
    return [loss * share, p @ w * share, p.T @ x * share]


@pytest.mark.parametrize("dtype", list(UNITS))
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("needs", ["both", "x", "w"])
@pytest.mark.parametrize(("rows", "inner", "classes"), [(40, 32, 50), (7, 5, 1000), (300, 64, 2)])
def test_loss_and_gradients_without_logits(
    dtype: torch.dtype, reduction: str, needs: str, rows: int, inner: int, classes: int
) -> None:
    torch.manual_seed(0)
    x, w = numbers(rows, inner, dtype=dtype), numbers(classes, inner, dtype=dtype) * 0.3
    target = labels(rows, classes)

    def step() -> list[torch.Tensor]:
        a, b = (t.clone().requires_grad_(needs in ("both", n)) for t, n in ((x, "x"), (w, "w")))
        loss = F.cross_entropy(F.linear(a, b), target, reduction=reduction)
        if reduction == "none":
            loss = (loss * 0.5).sum() * 2
        loss.backward()
        return [loss, *(t.grad for t in (a, b) if t.grad is not None)]

    found = check(step, dtype)
    a, b = values([x, w])
    wanted = exact(a, b, target.numpy(), reduction == "mean")
    wanted = [wanted[0]] + [
        g for g, n in zip(wanted[1:], "xw", strict=True) if needs in ("both", n)
    ]
    for f, e in zip(found, wanted, strict=True):
        near = (8 if dtype == torch.bfloat16 else 64) * UNITS[dtype]
        np.testing.assert_allclose(f, e, rtol=near, atol=near * np.abs(e).max())


def test_the_forms_that_products_take() -> None:
    """x @ w, whose weight's gradient has the logits' gradient on the right, and other layouts."""
    torch.manual_seed(0)
    x, w, target = numbers(24, 16), numbers(16, 30), labels(24, 30)
    w_turned = w.t().contiguous()

    def step(form: str) -> list[torch.Tensor]:
        a = x.clone().requires_grad_()
        b = (w_turned if form == "linear" else w).clone().requires_grad_()
        logits = F.linear(a, b) if form == "linear" else a @ b
        loss = F.cross_entropy(logits, target)
        del logits
        loss.backward()
        return [loss, a.grad, b.grad.t() if form == "linear" else b.grad]

    first = check(lambda: step("linear"), torch.float32)
    second = check(lambda: step("matmul"), torch.float32)
    for f, s in zip(first, second, strict=True):
        np.testing.assert_allclose(f, s, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_logits_that_are_widened_for_the_loss(reduction: str, factor: float) -> None:
    torch.manual_seed(0)
    x, w = (numbers(n, 32, dtype=torch.bfloat16) for n in (40, 50))
    target = labels(40, 50)

    def step() -> list[torch.Tensor]:
        a, b = x.clone().requires_grad_(), w.clone().requires_grad_()
        loss = F.cross_entropy(F.linear(a, b).float(), target, reduction=reduction)
        assert loss.dtype == torch.float32
        (loss.sum() * factor).backward()
        return [loss, a.grad, b.grad]

    loss, *_ = check(step, torch.bfloat16)
    a, b = values([x, w])
    if reduction == "mean":  # of logits that were not rounded
        np.testing.assert_allclose(loss, exact(a, b, target.numpy())[0], rtol=1e-5)


def test_large_logits_become_their_gradient_in_their_place() -> None:
    """More than 128 MiB of them: no second tensor of that size, with the pass or without."""
    torch.manual_seed(0)
    rows, classes = 1100, 32768
    x, w = (numbers(n, 16).requires_grad_() for n in (rows, classes))
    target = labels(rows, classes)

    def step() -> list[torch.Tensor]:
        x.grad = w.grad = None
        F.cross_entropy(F.linear(x, w), target).backward()
        return [x.grad, w.grad]

    logits = 4 * rows * classes
    expected = values(step())
    for passes in (True, OFF):
        _C.reset_peak_memory(x.device)
        before = _C.memory_stats(x.device)["allocated"]
        found, report = run(step, passes)
        assert report.rewrites["cross_entropy"] == 1
        assert report.rewrites.get(NAME, 0) == (passes is True)
        assert _C.memory_stats(x.device)["peak_allocated"] - before < 1.5 * logits
        for f, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(f, e, rtol=1e-4, atol=1e-5 * np.abs(e).max())


class Tiny(nn.Module):
    """Embedding, a block of two layers with GELU, a norm and a head."""

    def __init__(self, tied: bool, classes: int = 48, width: int = 32) -> None:
        super().__init__()
        self.token = nn.Embedding(classes, width)
        self.first, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.grow, self.shrink = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, classes, bias=False)
        if tied:
            self.head.weight = self.token.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.token(ids)
        x = x + self.shrink(F.gelu(self.grow(self.first(x)), approximate="tanh"))
        return self.head(self.norm(x))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 128.0])
def test_steps_of_a_language_model(
    tied: bool, batches: int, dtype: torch.dtype, scale: float
) -> None:
    """With accumulated gradients, a scaled loss, clipping and AdamW."""
    torch.manual_seed(0)
    start = [p.detach().clone() for p in Tiny(tied).to(dtype).parameters()]
    ids = torch.randint(0, 48, (batches, 4, 13))

    def step() -> list[torch.Tensor]:
        model = Tiny(tied).to(dtype)
        with torch.no_grad():
            for p, value in zip(model.parameters(), start, strict=True):
                p.copy_(value)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1 / (n + 1))
        told = []
        for _ in range(2):
            optimizer.zero_grad()
            for text in ids:
                logits = model(text[:, :-1]).flatten(0, 1)
                loss = F.cross_entropy(logits, text[:, 1:].flatten()) * scale
                del logits
                loss.backward()
                told.append(loss.detach())
            gradients = [p.grad.clone() for p in model.parameters()]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        return told + gradients

    # Weights after a step differ by Adam's sign of small gradients, so only the first is compared.
    expected, _ = run(step, OFF)
    found, report = run(step)
    assert report.rewrites[NAME] == 2 * batches
    near = 2.0**-5 if dtype == torch.bfloat16 else 1e-4
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=near, atol=near * np.abs(e).max())


@pytest.mark.parametrize("spread", [0.02, 0.2, 1.0])
@pytest.mark.parametrize(("rows", "inner", "classes"), [(512, 64, 300), (200, 128, 2000)])
def test_errors_of_gradients_in_bfloat16(
    spread: float, rows: int, inner: int, classes: int
) -> None:
    """Rounded logits cost more the larger they are; what is scaled is rounded once more instead."""
    torch.manual_seed(0)
    x = numbers(rows, inner, dtype=torch.bfloat16)
    w = (torch.randn(classes, inner) * spread).to(torch.bfloat16)
    target = torch.randint(0, classes, (rows,))

    def step() -> list[torch.Tensor]:
        a, b = x.clone().requires_grad_(), w.clone().requires_grad_()
        F.cross_entropy(F.linear(a, b), target).backward()
        return [a.grad, b.grad]

    wanted = exact(*values([x, w]), target.numpy())[1:]
    with_pass, without = (
        [np.linalg.norm(f - e) / np.linalg.norm(e) for f, e in zip(found, wanted, strict=True)]
        for found in (run(step)[0], run(step, OFF)[0])
    )
    for new, old in zip(with_pass, without, strict=True):
        assert new < 0.003
        assert new < {0.02: 1.1, 0.2: 1.0, 1.0: 0.5}[spread] * old


@pytest.mark.parametrize("dtype", list(UNITS))
def test_extreme_logits(dtype: torch.dtype) -> None:
    """Targets far below the largest logit, infinities and numbers that are none."""
    rows, classes = 9, 20
    logits = np.random.default_rng(0).standard_normal((rows, classes)).astype(np.float32)
    target = np.arange(rows) % classes
    logits[0, 3] = 200.0  # exp of the difference overflows float32
    logits[1, :] -= 500.0
    logits[2, 2] = 300.0  # certain
    logits[3, 5] = -np.inf  # another class is impossible
    logits[4, 4] = -np.inf  # the target is
    logits[5, 1] = np.nan
    logits[6, 1] = np.inf
    logits[7, :] = -np.inf
    target[8] = -100
    logits[8, 2] = np.nan  # nobody asks
    x, eye = torch.from_numpy(logits).to(dtype), torch.eye(classes).to(dtype)
    # A row a step: what is no number stays in its row of one gradient, but not of the other.
    for r in range(rows):
        row, label = x[r : r + 1].expand(2, classes).contiguous(), torch.tensor([target[r]] * 2)

        def step(row: torch.Tensor = row, label: torch.Tensor = label) -> list[torch.Tensor]:
            a = row.clone().requires_grad_()
            w = eye.clone().requires_grad_()
            loss = F.cross_entropy(F.linear(a, w), label, reduction="sum")
            loss.backward()
            return [loss, a.grad, w.grad]

        expected, _ = run(step, OFF)
        found, report = run(step)
        assert report.rewrites[NAME] == 1
        for f, e in zip(found, expected, strict=True):
            near = 8 * UNITS[dtype] * (64 if r == 1 else 1)  # logits of -500, less their log-sum
            np.testing.assert_allclose(f, e, rtol=near, atol=near, err_msg=f"row {r}")


def test_a_target_out_of_range_is_an_error() -> None:
    x, w = numbers(4, 8).requires_grad_(), numbers(10, 8).requires_grad_()
    target = torch.tensor([0, 1, 10, 2])
    with pytest.raises(IndexError, match="target 10 at position 2"), fuse.recording():
        F.cross_entropy(F.linear(x, w), target).backward()


def kept_logits(x: Any, w: Any, target: Any, keep: list[Any]) -> Any:
    logits = F.linear(x, w)
    keep.append(logits)
    return F.cross_entropy(logits, target)


def read_logits(x: Any, w: Any, target: Any, keep: list[Any]) -> Any:
    logits = F.linear(x, w)
    keep.append(logits.detach().amax(1))
    return F.cross_entropy(logits, target)


def written_logits(x: Any, w: Any, target: Any, keep: list[Any]) -> Any:
    logits = F.linear(x, w)
    with torch.no_grad():
        logits.detach()[:2].mul_(2.0)
    return F.cross_entropy(logits, target)


def scaled_logits(x: Any, w: Any, target: Any, keep: list[Any]) -> Any:
    return F.cross_entropy(F.linear(x, w) * 0.5, target)


def two_losses(x: Any, w: Any, target: Any, keep: list[Any]) -> Any:
    logits = F.linear(x, w)
    return F.cross_entropy(logits, target) + F.cross_entropy(logits, target.flip(0))


def smoothed(x: Any, w: Any, target: Any, keep: list[Any]) -> Any:
    return F.cross_entropy(F.linear(x, w), target, label_smoothing=0.1)


def with_bias(x: Any, w: Any, target: Any, keep: list[Any]) -> Any:
    return F.cross_entropy(F.linear(x, w, w.detach()[:, 0].contiguous()), target)


def kept_gradient(x: Any, w: Any, target: Any, keep: list[Any]) -> Any:
    logits = F.linear(x, w)
    logits.register_hook(lambda gradient: keep.append(gradient))
    return F.cross_entropy(logits, target)


def through_double(x: Any, w: Any, target: Any, keep: list[Any]) -> Any:
    return F.cross_entropy(F.linear(x, w).double(), target)


def kept_in_float(x: Any, w: Any, target: Any, keep: list[Any]) -> Any:
    logits = F.linear(x.bfloat16(), w.bfloat16()).float()
    keep.append(logits)
    return F.cross_entropy(logits, target)


def kept_before_float(x: Any, w: Any, target: Any, keep: list[Any]) -> Any:
    logits = F.linear(x.bfloat16(), w.bfloat16())
    keep.append(logits)
    return F.cross_entropy(logits.float(), target)


def through_half(x: Any, w: Any, target: Any, keep: list[Any]) -> Any:
    return F.cross_entropy(F.linear(x.half(), w.half()).float(), target)


@pytest.mark.parametrize(
    "loss_of",
    [
        kept_logits, read_logits, written_logits, scaled_logits, two_losses, smoothed, with_bias,
        kept_gradient, through_double, kept_in_float, kept_before_float, through_half,
    ],
)  # fmt: skip
def test_left_alone(loss_of: Any) -> None:
    torch.manual_seed(0)
    x, w, target = numbers(24, 16), numbers(30, 16), torch.randint(0, 30, (24,))

    def step() -> list[torch.Tensor]:
        a, b = x.clone().requires_grad_(), w.clone().requires_grad_()
        keep: list[torch.Tensor] = []
        loss = loss_of(a, b, target, keep)
        loss.backward()
        return [loss, a.grad, b.grad, *keep]

    check(step, torch.float32, 0)


def test_left_alone_in_float16_and_where_the_graph_is_kept() -> None:
    torch.manual_seed(0)
    x, w, target = numbers(24, 16), numbers(30, 16), torch.randint(0, 30, (24,))

    def step(dtype: torch.dtype, keep: bool) -> list[torch.Tensor]:
        a, b = (t.to(dtype).requires_grad_() for t in (x, w))
        loss = F.cross_entropy(F.linear(a, b), target)
        loss.backward(retain_graph=keep)
        if keep:
            loss.backward()
        return [loss, a.grad, b.grad]

    assert NAME not in run(lambda: step(torch.float16, False))[1].rewrites
    assert NAME not in run(lambda: step(torch.float32, True))[1].rewrites
    assert NAME not in run(lambda: [F.cross_entropy(F.linear(x, w), target)])[1].rewrites


@pytest.mark.parametrize("when", ["before", "after"])
def test_weights_that_change_around_backward(when: str) -> None:
    """The logits' product moves to where the gradient is: not past a change of what it reads."""
    torch.manual_seed(0)
    x, w, target = numbers(24, 16), numbers(30, 16), torch.randint(0, 30, (24,))

    def step() -> list[torch.Tensor]:
        memory = w.clone().numpy()
        a, b, same_memory = x.clone(), torch.from_numpy(memory), torch.from_numpy(memory)
        b.requires_grad_()
        losses = F.cross_entropy(F.linear(a, b), target, reduction="none")
        if when == "before":
            same_memory.mul_(2.0)  # behind autograd's back
        losses.sum().backward()
        if when == "after":
            with torch.no_grad():
                b.mul_(2.0)
        return [losses, b.grad, b]

    check(step, torch.float32, when == "after")


def test_two_heads_and_what_lies_around_them() -> None:
    """Heads on one stream; GELU and its gradient next to a head, without a norm between."""
    torch.manual_seed(0)
    x, w = numbers(24, 16), [numbers(30, 32) * 0.3, numbers(12, 32) * 0.3]
    grow = numbers(32, 16) * 0.3
    targets = [labels(24, 30), labels(24, 12)]

    def step() -> list[torch.Tensor]:
        a, g = x.clone().requires_grad_(), grow.clone().requires_grad_()
        heads = [each.clone().requires_grad_() for each in w]
        hidden = F.gelu(F.linear(a, g), approximate="tanh")
        losses = [
            F.cross_entropy(F.linear(hidden, head), target, reduction=reduction)
            for head, target, reduction in zip(heads, targets, ("mean", "sum"), strict=True)
        ]
        del hidden
        (losses[0] * 3 + losses[1]).backward()
        return [*losses, a.grad, g.grad, *(head.grad for head in heads)]

    check(step, torch.float32, 2)


def test_random_programs() -> None:
    """Heads, losses and what is done with them, drawn at random."""
    for seed in range(60):
        draw = np.random.default_rng(seed)
        torch.manual_seed(seed)
        rows, inner, classes = (int(draw.integers(2, n)) for n in (40, 24, 60))
        dtype = [torch.float32, torch.bfloat16, torch.float64][int(draw.integers(3))]
        x, w = numbers(rows, inner, dtype=dtype), numbers(classes, inner, dtype=dtype)
        target = labels(rows, classes)
        reduction = str(draw.choice(["mean", "sum", "none"]))
        flags = {
            name: bool(draw.integers(2))
            for name in (
                "norm",
                "matmul",
                "tied",
                "scaled",
                "kept",
                "twice",
                "frozen",
                "before",
                "float",
            )
        }

        def step(
            x: torch.Tensor = x, w: torch.Tensor = w, target: torch.Tensor = target,
            reduction: str = reduction, flags: dict[str, bool] = flags, dtype: torch.dtype = dtype,
        ) -> list[torch.Tensor]:  # fmt: skip
            a, b = x.clone().requires_grad_(), w.clone().requires_grad_(not flags["frozen"])
            told, keep = [], []
            for _ in range(1 + flags["twice"]):
                hidden = F.layer_norm(a, (a.shape[1],)) if flags["norm"] else a
                if flags["before"]:
                    hidden = hidden + torch.tanh(hidden)
                if flags["tied"]:
                    hidden = hidden + b[target.clamp(min=0)]
                logits = hidden @ b.t() if flags["matmul"] else F.linear(hidden, b)
                if flags["float"] and dtype == torch.bfloat16:
                    logits = logits.float()
                losses = F.cross_entropy(logits, target, reduction=reduction)
                loss = losses.mean() if reduction == "none" else losses
                if flags["kept"]:
                    keep.append(logits.amax(1))
                del logits, losses
                (loss * 4 if flags["scaled"] else loss).backward()
                told.append(loss.detach())
            return [*told, *keep, a.grad, *([] if flags["frozen"] else [b.grad])]

        check(step, dtype, (not flags["kept"]) * (1 + flags["twice"]))
