"""The same models on PyTorch: the sources of the examples, with the import exchanged."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import torch as pytorch

from vibetensor import nn


def on_pytorch(module: ModuleType) -> ModuleType:
    """A copy of an example's module whose `torch` is PyTorch."""
    source = inspect.getsource(module)
    replaced = source.replace("import vibetensor.torch as torch\n", "import torch\n").replace(
        "from vibetensor.torch import nn\n", "from torch import nn\n"
    )
    assert replaced.count("vibetensor") == 0, "the model is not written against torch alone"
    twin = ModuleType(f"{module.__name__}_on_pytorch")
    exec(compile(replaced, twin.__name__, "exec"), twin.__dict__)
    return twin


def copy_weights(source: nn.Module, target: Any) -> None:
    """Gives a PyTorch model the values of ours."""
    state = {name: pytorch.from_numpy(value.detach().cpu().numpy().copy())
             for name, value in source.state_dict().items()}  # fmt: skip
    target.load_state_dict(state)


def train(
    model: Any, loss_fn: Any, batches: list[Any], *, lr: float, clip: float | None,
    device: str = "cpu", autocast: bool = False, weight_decay: float = 0.01,
) -> list[float]:  # fmt: skip
    """The losses of a plain training loop."""
    model.to(device)
    optimizer = pytorch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    losses = []
    for inputs, targets in batches:
        inputs, targets = (pytorch.from_numpy(array).to(device) for array in (inputs, targets))
        optimizer.zero_grad()
        with pytorch.autocast(device, pytorch.bfloat16, enabled=autocast):
            loss = loss_fn(model(inputs), targets)
        loss.backward()
        if clip is not None:
            pytorch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(float(loss.item()))
    return losses
