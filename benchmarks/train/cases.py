"""chargpt in its sizes, as a function that runs so many training steps: ours, and PyTorch's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """One model, device and precision; `ranks` share the device on our side."""

    name: str
    device: str
    precision: str
    vocabulary: int
    context: int
    width: int
    heads: int
    layers: int
    batch: int
    ranks: int = 1

    def batches(self, count: int = 8) -> list[tuple[Any, Any]]:
        """(ids, next ids) as int64 arrays."""
        numbers = np.random.default_rng(0)
        ids = numbers.integers(self.vocabulary, size=(count, self.batch, self.context + 1))
        return [(each[:, :-1].copy(), each[:, 1:].copy()) for each in ids]


_LARGE = (4096, 128, 256, 8, 6, 64)
_SMALL = (97, 128, 128, 4, 4, 32)

CASES = (
    Case("chargpt small cpu fp32", "cpu", "fp32", *_SMALL),
    Case("chargpt small cpu fp32 4 devices", "cpu", "fp32", *_SMALL, ranks=4),
    Case("chargpt cuda fp32", "cuda", "fp32", *_LARGE),
    Case("chargpt cuda bf16", "cuda", "bf16", *_LARGE),
    Case("chargpt cuda fp32 2 ranks", "cuda", "fp32", *_LARGE, ranks=2),
    Case("chargpt cuda bf16 4 ranks", "cuda", "bf16", *_LARGE, ranks=4),
)


def _model(case: Case, module: ModuleType) -> Any:
    return module.GPT(case.vocabulary, case.context, case.width, case.heads, case.layers)


def ours(case: Case) -> Callable[[int], None]:
    """Steps of a Trainer; the last one is waited for."""
    import vibetensor.torch as torch
    from vibetensor import _C, fabric
    from vibetensor.examples import gpt
    from vibetensor.parallel import DataParallel, Trainer

    if case.device == "cpu":
        mesh = fabric.parse_devices(f"cpu:{case.ranks}")
    else:
        mesh = fabric.mesh("cuda:0", ranks=case.ranks)
    torch.manual_seed(0)
    model = DataParallel(_model(case, gpt), mesh)
    trainer = Trainer(
        model, torch.optim.AdamW(model.parameters(), lr=3e-4), gpt.loss,
        precision=case.precision, clip=1.0,
    )  # fmt: skip
    batches = [tuple(torch.from_numpy(a) for a in batch) for batch in case.batches()]

    def run(steps: int) -> None:
        for i in range(steps):
            trainer.step(batches[i % len(batches)])
        for device in dict.fromkeys(mesh.devices):
            _C.synchronize(device)

    return run


def theirs(case: Case) -> Callable[[int], None]:
    """The same model and loop on PyTorch eager: fused AdamW, autocast for bf16."""
    import torch

    from vibetensor.examples import gpt

    source = inspect.getsource(gpt)
    source = source.replace("import vibetensor.torch as torch\n", "import torch\n")
    source = source.replace("from vibetensor.torch import nn\n", "from torch import nn\n")
    twin = ModuleType("gpt_on_pytorch")
    exec(compile(source, twin.__name__, "exec"), twin.__dict__)

    torch.manual_seed(0)
    model = _model(case, twin).to(case.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    pin = case.device == "cuda"
    batches = [[torch.from_numpy(a) for a in batch] for batch in case.batches()]
    if pin:
        batches = [[tensor.pin_memory() for tensor in batch] for batch in batches]

    def run(steps: int) -> None:
        for i in range(steps):
            ids, targets = (t.to(case.device, non_blocking=True) for t in batches[i % len(batches)])
            optimizer.zero_grad()
            with torch.autocast(case.device, torch.bfloat16, enabled=case.precision == "bf16"):
                loss = twin.loss(model(ids), targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        if pin:
            torch.cuda.synchronize()

    return run
