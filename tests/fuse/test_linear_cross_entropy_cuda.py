"""On a GPU: losses in the product that makes their logits, beside float64."""

from __future__ import annotations

import numpy as np
import pytest

import vibetensor.torch as torch
from vibetensor import fuse

F = torch.nn.functional
pytestmark = pytest.mark.cuda

NAME = "linear_cross_entropy"
# Of bfloat16. Rounding to nearest is off by two of these at most, many numbers together by one.
UNIT = 2.0**-9
# Rows, classes and k that have the kernel: whole tiles or cut ones, rows in one panel or several.
SIZES = [(4100, 3264, 64), (2300, 6208, 72), (33792, 768, 264), (512, 50304, 768), (25600, 576, 40)]
Results = list[np.ndarray]


def numbers(t: torch.Tensor) -> np.ndarray:
    return t.detach().double().cpu().numpy()


def operands(
    rows: int, classes: int, k: int, spread: float = 2.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x and w of bfloat16, whose logits have that standard deviation, and targets."""
    rng = np.random.default_rng(rows + classes)
    x = torch.from_numpy(rng.standard_normal((rows, k), np.float32))
    w = torch.from_numpy(rng.standard_normal((classes, k), np.float32) * (spread * k**-0.5))
    target = rng.integers(0, classes, rows)
    target[::7] = -100
    return x.to("cuda").bfloat16(), w.to("cuda").bfloat16(), torch.from_numpy(target).to("cuda")


def losses(
    x: torch.Tensor, w: torch.Tensor, target: torch.Tensor, reduction: str, found: int = 1
) -> list[torch.Tensor]:
    """The loss or losses, of which the mean is taken backward, and the gradients of x and w."""
    with fuse.recording() as made:
        a, b = x.clone().requires_grad_(), w.clone().requires_grad_()
        loss = F.cross_entropy(F.linear(a, b), target, reduction=reduction)
        (loss.sum() * (1 / 64) if reduction == "none" else loss).backward()
        assert a.grad is not None and b.grad is not None
        results = [loss.detach(), a.grad, b.grad]
    assert made.report is not None and made.report.failure == ""
    assert made.report.rewrites.get(NAME, 0) == found
    return results


def exact(x: torch.Tensor, w: torch.Tensor, target: torch.Tensor, by: float) -> list[torch.Tensor]:
    """In float64: losses, and gradients where each loss has that gradient."""
    a, b = x.double(), w.double()
    each = torch.log_softmax(F.linear(a, b), 1)
    at = target.unsqueeze(1)
    own = (torch.arange(len(w), device=x.device) == at).double()
    counted = (at >= 0).double()
    p = (torch.exp(each) - own) * counted * by
    return [-(each * own).sum(1), p @ b, p.t() @ a]


def near(found: torch.Tensor, wanted: torch.Tensor, units: float) -> None:
    """Errors as a share of the whole, and each one's beside the largest number of its row."""
    f, e = numbers(found), numbers(wanted)
    assert np.isfinite(f).all()
    norm = np.linalg.norm(f - e) / max(np.linalg.norm(e), 1e-30)
    assert norm < units * UNIT, norm / UNIT
    largest = np.abs(e).max(-1, keepdims=True) if e.ndim > 1 else np.abs(e)
    worst = (np.abs(f - e) / (largest + 1e-2 * np.abs(e).max() + 1e-30)).max()
    assert worst < 4 * units * UNIT, worst / UNIT


@pytest.mark.parametrize(("rows", "classes", "k"), SIZES)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_loss_and_gradients(rows: int, classes: int, k: int, reduction: str) -> None:
    x, w, target = operands(rows, classes, k)
    found = losses(x, w, target, reduction)
    mean = reduction == "mean"
    counted = int((target >= 0).sum())
    wanted = exact(x, w, target, 1 / counted if mean else 1 / 64)
    near(found[0], wanted[0].sum() / counted if mean else wanted[0], 2.1 if mean else 1.1)
    near(found[1], wanted[1], 1.5)
    near(found[2], wanted[2], 1.5)
    again = losses(x, w, target, reduction)
    for f, a in zip(found, again, strict=True):
        assert numbers(f).tobytes() == numbers(a).tobytes()


def test_targets_far_below_the_largest_logit() -> None:
    """Exponentials that overflow: such rows are computed again, others are not touched by it."""
    x, w, target = operands(4100, 3264, 64)
    for row, by in ((0, 60.0), (3, 1000.0), (2047, 200.0), (4099, 80.0)):
        x[row] *= by
    target[0], target[2047] = -100, 5
    before = exact(x, w, target, 1 / 64)
    assert float(before[0].max()) > 500
    found = losses(x, w, target, "none")
    for f, e in zip(found, before, strict=True):
        near(f, e, 1.5)
    assert not np.any(numbers(found[1])[0])


def test_certain_rows() -> None:
    """A target far above all others: nearly no loss, nearly no gradient."""
    x, w, target = operands(4100, 3264, 64)
    target[:] = (torch.arange(4100, device="cuda") % 3264).to(target.dtype)
    x[:3264] = w * 40.0
    found, wanted = losses(x, w, target, "none"), exact(x, w, target, 1 / 64)
    f, e = numbers(found[0]), numbers(wanted[0])
    assert np.abs(f - e).max() < 1e-4 + 2 * UNIT * e.max() and (f >= 0).all()
    for i in (1, 2):
        f, e = numbers(found[i]), numbers(wanted[i])
        assert np.linalg.norm(f - e) < 1.5 * UNIT * np.linalg.norm(e)


def test_numbers_that_are_none_stay_in_their_row() -> None:
    x, w, target = operands(4100, 3264, 64)
    target[8], target[9] = 17, -100
    x[8, 3], x[9, 3] = float("nan"), float("nan")
    loss, grad, _ = losses(x, w, target, "none")
    bad = np.flatnonzero(np.isnan(numbers(loss)))
    assert bad.tolist() == [8]
    assert np.isnan(numbers(grad)[8]).all() and not np.any(numbers(grad)[9])
    assert np.flatnonzero(np.isnan(numbers(grad)).any(1)).tolist() == [8]


def test_a_target_out_of_range_is_an_error() -> None:
    x, w, target = operands(4100, 3264, 64)
    target[4099] = 3264
    with pytest.raises(IndexError, match="3264"):
        losses(x, w, target, "mean")
        torch.cuda.synchronize()
    losses(x, w, operands(4100, 3264, 64)[2], "mean")  # the GPU is as usable as before


def test_few_tiles_go_another_way() -> None:
    x, w, target = operands(256, 384, 64)
    losses(x, w, target, "mean", found=0)


def test_nearer_to_float64_than_by_logits() -> None:
    x, w, target = operands(4096, 6144, 128)
    with fuse.recording({NAME: False}):
        a, b = x.clone().requires_grad_(), w.clone().requires_grad_()
        F.cross_entropy(F.linear(a, b), target).backward()
    wanted = exact(x, w, target, 1 / int((target >= 0).sum()))
    found = losses(x, w, target, "mean")
    for by_logits, new, e in zip([a.grad, b.grad], found[1:], wanted[1:], strict=True):
        exactly = numbers(e)
        errors = [float(np.linalg.norm(numbers(t) - exactly)) for t in (new, by_logits)]
        assert errors[0] < errors[1]
