"""Training steps that are run eagerly and captured, and the state that must agree to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import vibetensor.torch as torch
from vibetensor import _C, nn

Step = Callable[..., Any]


class Mlp(nn.Module):
    """Two layers with dropout between."""

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        self.first = nn.Linear(24, 64)
        self.drop = nn.Dropout(p)
        self.last = nn.Linear(64, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.drop(nn.functional.gelu(self.first(x))))


class Run:
    """A model, an optimizer and a schedule from one seed, and their step."""

    def __init__(
        self, optimizer: str = "adamw", *, dtype: Any = torch.float32, schedule: bool = True,
        clip: bool = True,
    ) -> None:  # fmt: skip
        torch.manual_seed(7)
        self.model = Mlp().to("cuda").to(dtype)
        params = list(self.model.parameters())
        if optimizer == "adamw":
            self.optimizer: Any = torch.optim.AdamW(params, lr=1e-2)
        elif optimizer == "adam":
            self.optimizer = torch.optim.Adam(params, lr=1e-2, weight_decay=1e-3)
        else:
            self.optimizer = torch.optim.SGD(params, lr=1e-2, momentum=0.9, weight_decay=1e-3)
        self.schedule = (
            torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=15)
            if schedule
            else None
        )
        self.clip = clip

    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(x), y)
        loss.backward()
        if self.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        return loss

    def state(self) -> dict[str, np.ndarray]:
        """Everything that the next step depends on."""
        found = dict(self.model.state_dict())
        for index, state in self.optimizer.state_dict()["state"].items():
            for name, value in state.items():
                found[f"{index}.{name}"] = value
        arrays = {name: np.array(value.detach().cpu().double()) for name, value in found.items()}
        arrays["lr"] = np.array(self.optimizer.param_groups[0]["lr"])
        arrays["random"] = np.array(_C.get_rng_state(_C.device("cuda:0")))
        for i, param in enumerate(self.model.parameters()):
            if param.grad is not None:
                arrays[f"grad.{i}"] = np.array(param.grad.cpu().double())
        return arrays


def batches(count: int, size: int = 16) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches on the GPU, from a seed of their own."""
    numbers = np.random.default_rng(3)
    return [
        (
            torch.from_numpy(numbers.standard_normal((size, 24)).astype(np.float32)).cuda(),
            torch.from_numpy(numbers.integers(0, 8, size)).cuda(),
        )
        for _ in range(count)
    ]


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    """Equal to the bit."""
    assert a.keys() == b.keys()
    for name in a:
        assert np.array_equal(a[name], b[name], equal_nan=True), name
