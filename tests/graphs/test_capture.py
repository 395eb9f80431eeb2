"""vibetensor.capture: the bits of eager steps, other shapes, and reasons to run eagerly."""

from __future__ import annotations

import gc
import logging
from typing import Any

import numpy as np
import pytest
import steps

import vibetensor
import vibetensor.torch as torch
from vibetensor import _C, nn

cuda = pytest.mark.cuda


@cuda
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_twenty_captured_steps_have_the_bits_of_eager_ones(optimizer: str, dtype: Any) -> None:
    def train(captured: bool) -> tuple[list[float], dict[str, np.ndarray]]:
        run = steps.Run(optimizer, dtype=dtype)
        step = vibetensor.capture(run.step) if captured else run.step
        losses = [float(step(x.to(dtype), y)) for x, y in steps.batches(20)]
        if captured:
            assert (step.captures, step.replays) == (1, 18)
        return losses, run.state()

    eager, captured, again = train(False), train(True), train(True)
    assert eager[0] == captured[0] == again[0]
    steps.assert_same(eager[1], captured[1])
    steps.assert_same(again[1], captured[1])


@cuda
def test_a_new_shape_is_captured_again_and_an_old_one_replayed() -> None:
    sizes = [16, 16, 16, 16, 8, 8, 8, 16, 5, 5, 5, 8, 16]

    def train(captured: bool) -> tuple[list[float], dict[str, np.ndarray], int]:
        run = steps.Run()
        step = vibetensor.capture(run.step) if captured else run.step
        losses = [float(step(*steps.batches(i + 1, size)[-1])) for i, size in enumerate(sizes)]
        return losses, run.state(), step.captures if captured else 0

    eager, captured = train(False), train(True)
    assert eager[0] == captured[0]
    steps.assert_same(eager[1], captured[1])
    assert captured[2] == 3


@cuda
def test_a_replay_allocates_nothing() -> None:
    run = steps.Run()
    step = vibetensor.capture(run.step)
    data = steps.batches(30)
    for x, y in data[:4]:
        step(x, y)
    before = _C.memory_stats(_C.device("cuda:0"))
    for x, y in data[4:]:
        step(x, y)
    after = _C.memory_stats(_C.device("cuda:0"))
    for name in ("allocations", "system_allocations", "allocated", "reserved"):
        assert after[name] == before[name], name


@cuda
def test_seeds_rates_parameters_and_options_may_change_between_replays() -> None:
    def train(captured: bool) -> tuple[list[float], dict[str, np.ndarray]]:
        run = steps.Run(dtype=torch.bfloat16, schedule=False)
        step: Any = vibetensor.capture(run.step) if captured else run.step
        losses = []
        for i, (x, y) in enumerate(steps.batches(16)):
            group = run.optimizer.param_groups[0]
            if i == 6:
                torch.manual_seed(11)
            if i == 8:
                group["lr"], group["betas"], group["weight_decay"] = 0.02, (0.8, 0.99), 0.1
            if i == 10:
                with torch.no_grad():
                    run.model.first.weight.mul_(0.5)
            if i == 12:
                run.optimizer.load_state_dict(run.optimizer.state_dict())
            losses.append(float(step(x.bfloat16(), y)))
        if captured:
            assert (step.captures, step.replays) == (2, 14)
        return losses, run.state()

    eager, captured = train(False), train(True)
    assert eager[0] == captured[0]
    steps.assert_same(eager[1], captured[1])


@cuda
def test_gradients_that_come_or_go_between_calls_are_those_of_eager_calls() -> None:
    def train(captured: bool) -> list[np.ndarray]:
        torch.manual_seed(1)
        model = steps.Mlp(0.0).to("cuda")

        def passes(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        step: Any = vibetensor.capture(passes) if captured else passes
        found = []
        for i, (x, y) in enumerate(steps.batches(24)):
            if i % 3 == 0:  # two of three calls add to gradients that are there
                model.zero_grad()
            step(x, y)
            found.append(np.array(model.first.weight.grad.cpu()))
        return found

    for a, b in zip(train(False), train(True), strict=True):
        assert np.array_equal(a, b)


@cuda
def test_arguments_may_be_nested_on_the_host_and_constants() -> None:
    def step(batch: dict[str, Any], pair: tuple[Any, list[Any]], *, factor: float) -> Any:
        total = batch["x"] * factor + pair[0] + pair[1][0].float()
        return {"sum": total.sum(), "all": (total, None)}

    captured = vibetensor.capture(step)
    for i in range(8):
        factor = 2.0 if i < 5 else 3.0
        x = torch.full((4, 3), float(i))
        where = [x, x.pin_memory(), x.cuda()][i % 3]
        given = {"x": where}, (torch.ones(4, 3) * i, [torch.full((3,), i, dtype=torch.int64)])
        found = captured(*given, factor=factor)
        expected = np.array(x) * (factor + 2)
        assert np.array_equal(np.array(found["all"][0].cpu()), expected)
        assert float(found["sum"]) == expected.sum()
        assert found["all"][1] is None
    assert captured.captures == 2


@cuda
def test_what_cannot_be_captured_runs_eagerly_with_one_line_that_names_the_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    x = torch.arange(6, device="cuda", dtype=torch.float32)

    def step(x: torch.Tensor) -> torch.Tensor:
        if float(x.sum()) > 3:  # here
            return x * 2
        return x

    captured = vibetensor.capture(step)
    with caplog.at_level(logging.WARNING, "vibetensor.capture"):
        for i in range(6):
            assert np.array_equal(np.array(captured(x + i).cpu()), np.array((x + i).cpu()) * 2)
    assert captured.replays == 0
    (record,) = caplog.records
    for part in ("test_capture.py:", "if float(x.sum()) > 3", "item: cannot be captured"):
        assert part in record.getMessage()
    strict = vibetensor.capture(step, strict=True, warmup=1)
    strict(x)
    with pytest.raises(RuntimeError, match=r"test_capture.py:\d+: `if float\(x.sum"):
        strict(x)


@cuda
@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x.cpu(), "copy to the host"),
        (lambda x: 3.0, "returns the number 3.0"),
        (lambda x: torch.ones(3), "on the CPU"),
        (lambda x: torch.tensor([1.0, 2.0]).cuda() + x[0], "copy from the host"),
        (lambda x: None, "queued no work"),
        (lambda x: x.mul_(2.0), "changes an argument in place"),
        (lambda x: x[1:].zero_().sum(), "changes an argument in place"),
    ],
)
def test_reasons(step: Any, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    captured = vibetensor.capture(step)
    with caplog.at_level(logging.WARNING, "vibetensor.capture"):
        for _ in range(5):
            captured(torch.ones(4, device="cuda"))
    assert len(caplog.records) == 1
    assert reason in caplog.records[0].getMessage()


@cuda
def test_an_error_of_the_step_is_the_one_of_the_eager_step() -> None:
    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y

    captured = vibetensor.capture(step)
    for _ in range(4):
        captured(torch.ones(4, device="cuda"), torch.ones(4, device="cuda"))
    for _ in range(3):
        with pytest.raises(RuntimeError, match="broadcast"):
            captured(torch.ones(4, device="cuda"), torch.ones(3, device="cuda"))
    assert float(captured(torch.ones(4).cuda(), torch.ones(4).cuda()).sum()) == 8


@cuda
def test_memory_of_dropped_steps_goes_back() -> None:
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    run: Any = steps.Run()
    step: Any = vibetensor.capture(run.step)
    for x, y in steps.batches(5):
        step(x, y)
    del run, step, x, y
    gc.collect()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before


@cuda
def test_on_replay_runs_at_each_step() -> None:
    calls: list[int] = []

    def step(x: torch.Tensor) -> torch.Tensor:
        vibetensor.on_replay(lambda: calls.append(1))
        return x + 1

    captured = vibetensor.capture(step)
    for i in range(1, 8):
        captured(torch.ones(4, device="cuda"))
        assert len(calls) == i


@cuda
def test_arguments_that_always_change_are_not_captured_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    captured = vibetensor.capture(lambda x, rate: x * rate, max_graphs=2)
    with caplog.at_level(logging.WARNING, "vibetensor.capture"):
        for i in range(30):
            captured(torch.ones(4, device="cuda"), float(i))
    assert captured.captures == 0
    assert "change with nearly each call" in caplog.records[0].getMessage()


@cuda
def test_models_among_arguments_and_methods_have_graphs_of_their_modes() -> None:
    class Task:
        def __init__(self) -> None:
            self.model = steps.Mlp(0.5).to("cuda")

        @vibetensor.capture(warmup=1)
        def loss(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x).square().mean()

    @vibetensor.capture(warmup=1)
    def loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return model(x).square().mean()

    first, second = Task(), Task()
    x = torch.randn(8, 24, device="cuda")
    with torch.no_grad():
        for task in (first, second):
            for run in (lambda t=task: t.loss(x), lambda t=task: loss(t.model, x)):
                for training in (True, True, True, False, False, True):
                    task.model.train(training)
                    torch.manual_seed(3)
                    found = run().item()
                    torch.manual_seed(3)
                    assert found == task.model(x).square().mean().item()
    assert loss.captures == Task.loss.captures == first.loss.captures == 4
    assert loss.replays == Task.loss.replays == 8


@cuda
def test_what_reads_a_model_follows_its_parameters() -> None:
    model = steps.Mlp(0.0).to("cuda")
    x = torch.randn(8, 24, device="cuda")

    @vibetensor.capture(warmup=1)
    def predict(x: torch.Tensor) -> torch.Tensor:
        return model(x)

    def same() -> bool:
        return torch.equal(predict(x), model(x))

    with torch.no_grad():
        assert all(same() for _ in range(4)) and predict.captures == 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for count in (2, 2):  # the first step of an optimizer gives parameters other memory
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
        with torch.no_grad():
            assert all(same() for _ in range(3)) and predict.captures == count
    with torch.no_grad():
        model.last = nn.Linear(64, 8).to("cuda")
        assert all(same() for _ in range(3)) and predict.captures == 3
        model.last.bias = None
        assert all(same() for _ in range(3)) and predict.captures == 4


@cuda
def test_images_with_channels_last_stay_so() -> None:
    seen: list[tuple[int, ...]] = []
    weight = torch.randn(8, 4, 3, 3, device="cuda")

    def step(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.stride())
        return nn.functional.conv2d(x, weight, padding=1)

    captured = vibetensor.capture(step)
    for _ in range(2):
        for channels_last in (True, False):
            for _ in range(4):
                x = torch.randn(2, 4, 9, 7, device="cuda")
                if channels_last:
                    x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
                assert torch.equal(captured(x), step(x))
                assert seen[-1] == x.stride()
    assert captured.captures == 2 and len(set(seen)) == 2


def test_steps_are_decorators_of_functions_and_methods() -> None:
    class Task:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        @vibetensor.capture
        def plain(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

        @vibetensor.capture(warmup=3, fuse=True)
        def chosen(self, x: torch.Tensor) -> torch.Tensor:
            """Says so."""
            return x + self.factor

    for factor in (2.0, 3.0):
        task = Task(factor)
        assert task.plain(torch.ones(1)).item() == factor
        assert task.chosen(torch.ones(1)).item() == factor + 1
    assert Task.chosen.__doc__ == "Says so." and isinstance(Task.plain, vibetensor.CapturedStep)
    with pytest.raises(ValueError, match="no pass named"):
        vibetensor.capture(fuse={"pointwize"})(lambda: None)


def test_without_a_gpu_steps_run_eagerly_and_say_so_once(caplog: pytest.LogCaptureFixture) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step(x: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().sum()
        loss.backward()
        optimizer.step()
        return loss

    captured = vibetensor.capture(step)
    with caplog.at_level(logging.WARNING, "vibetensor.capture"):
        losses = [float(captured(torch.ones(4, 3))) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert len(caplog.records) == 1
    assert captured.reason and captured.replays == 0
    assert not captured(torch.ones(4, 3)).requires_grad


def test_counts_out_of_range_are_errors() -> None:
    with pytest.raises(ValueError, match="warmup"):
        vibetensor.capture(lambda: None, warmup=0)
    with pytest.raises(ValueError, match="max_graphs"):
        vibetensor.capture(lambda: None, max_graphs=0)


@cuda
def test_arguments_from_the_host_of_many_queued_replays() -> None:
    weight = torch.rand(1024, 1024, device="cuda") / 512

    def step(x: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
        y = x
        for _ in range(10):
            y = y @ weight
        return y + x + more

    batches = [(torch.full((1024, 1024), float(i)), torch.tensor([float(-i)])) for i in range(24)]
    expected = [np.array(step(x.cuda(), more.cuda()).cpu()) for x, more in batches]
    captured = vibetensor.capture(step, strict=True)
    found = [captured(x, more.cuda() if i % 3 else more).clone() for i, (x, more) in
             enumerate(batches)]  # fmt: skip
    torch.cuda.synchronize()
    assert captured.replays >= 20
    for got, want in zip(found, expected, strict=True):
        assert np.array_equal(np.array(got.cpu()), want)


@cuda
def test_a_pinned_argument_that_the_gpu_still_writes() -> None:
    captured = vibetensor.capture(lambda x: x * 2.0, strict=True)
    pinned = torch.zeros(1 << 20).pin_memory()
    for _ in range(3):
        captured(pinned)
    weight = torch.rand(4096, 4096, device="cuda")
    for i in range(4):
        for _ in range(4):
            weight @ weight  # keeps the stream busy
        pinned.copy_(torch.full((1 << 20,), float(i), device="cuda"), non_blocking=True)
        found = captured(pinned).clone()
        assert float(found.min()) == float(found.max()) == 2.0 * i


@cuda
def test_calls_from_different_streams_leave_each_other_their_inputs() -> None:
    weight = torch.rand(1024, 1024, device="cuda") / 512

    def step(x: torch.Tensor) -> torch.Tensor:
        y = x
        for _ in range(30):
            y = y @ weight
        return y + x

    inputs = [torch.full((1024, 1024), float(i), device="cuda") for i in range(8)]
    expected = [np.array(step(x).cpu()) for x in inputs]
    captured = vibetensor.capture(step)
    for _ in range(3):
        captured(inputs[0])
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(3)]
    found = []
    for i, x in enumerate(inputs):
        with torch.cuda.stream(streams[i % 3]):
            found.append(captured(x).clone())
    torch.cuda.synchronize()
    for got, want in zip(found, expected, strict=True):
        assert np.array_equal(np.array(got.cpu()), want)
