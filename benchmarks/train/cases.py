"""The workloads with their sizes: which network, what data, and how much work a step is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

Batch = tuple[Any, Any]


@dataclass(frozen=True)
class Case:
    """One network, device and precision.

    Attributes:
        model: makes the network from the module `benchmarks.train.models` or its twin on PyTorch.
        batch: one batch (input, target) as arrays, from a random generator.
        units: tokens or samples a step, and their name.
        flops: floating-point operations a step that the network asks for, for MFU; 0: not counted.
        ranks: how many devices share the work on our side, through the Trainer.
    """

    name: str
    device: str
    precision: str
    model: Callable[[ModuleType], Any] = field(repr=False)
    batch: Callable[[np.random.Generator], Batch] = field(repr=False)
    units: tuple[int, str] = (1, "samples")
    flops: float = 0.0
    lr: float = 3e-4
    ranks: int = 0

    def batches(self, count: int = 8) -> list[Batch]:
        """Some batches, the same in every process."""
        numbers = np.random.default_rng(0)
        return [self.batch(numbers) for _ in range(count)]


def _text(vocabulary: int, batch: int, time: int) -> Callable[[np.random.Generator], Batch]:
    def make(numbers: np.random.Generator) -> Batch:
        ids = numbers.integers(vocabulary, size=(batch, time + 1))
        return ids[:, :-1].copy(), ids[:, 1:].copy()

    return make


def _reversed(vocabulary: int, batch: int, time: int) -> Callable[[np.random.Generator], Batch]:
    def make(numbers: np.random.Generator) -> Batch:
        ids = numbers.integers(vocabulary, size=(batch, time))
        return ids, ids[:, ::-1].copy()

    return make


def _floats(shape: tuple[int, ...], classes: int) -> Callable[[np.random.Generator], Batch]:
    def make(numbers: np.random.Generator) -> Batch:
        images = numbers.standard_normal(shape, dtype=np.float32)
        return images, numbers.integers(classes, size=shape[0])

    return make


def _transformer_flops(tokens: int, time: int, width: int, layers: int, vocabulary: int) -> float:
    """Forward and backward products of a transformer with a four times wider network, attention
    counted whole: 6 a weight and token, and 12 * layers * time * width a token."""
    weights = layers * 12 * width * width + vocabulary * width
    return tokens * (6.0 * weights + 12.0 * layers * time * width)


def _chargpt(device: str, precision: str, small: bool = False, ranks: int = 1) -> Case:
    sizes = (97, 128, 128, 4, 4) if small else (4096, 128, 256, 8, 6)
    batch = 32 if small else 64
    name = f"chargpt {'small ' if small else ''}{device} {precision}"
    return Case(
        name if ranks == 1 else f"{name} {ranks} ranks", device, precision,
        lambda m: m.gpt.GPT(*sizes), _text(sizes[0], batch, 128), (batch * 128, "tokens"),
        ranks=ranks,
    )  # fmt: skip


def gpt2(name: str, batch: int, time: int) -> Case:
    """Training of GPT-2 with 124 million parameters in bfloat16, on `batch` texts of `time` ids."""
    tokens = batch * time
    return Case(
        name, "cuda", "bf16",
        lambda m: m.Transformer(50304, time, 768, 12, 12, tied=True),
        _text(50257, batch, time), (tokens, "tokens"),
        _transformer_flops(tokens, time, 768, 12, 50304),
    )  # fmt: skip


def _minigpt(precision: str) -> Case:
    return Case(
        f"minigpt {precision}", "cuda", precision,
        lambda m: m.Transformer(4096, 128, 256, 8, 6, rms=True, rotary=True, bias=False),
        _text(4096, 64, 128), (64 * 128, "tokens"), _transformer_flops(64 * 128, 128, 256, 6, 4096),
    )  # fmt: skip


def _vit(precision: str) -> Case:
    return Case(
        f"vit {precision}", "cuda", precision, lambda m: m.ViT(256, 8, 6),
        _floats((256, 3, 32, 32), 10), (256, "images"),
        _transformer_flops(256 * 80, 80, 256, 6, 0),
    )  # fmt: skip


def _reversal() -> Case:
    return Case(
        "reversal fp32", "cuda", "fp32",
        lambda m: m.Transformer(36, 64, 128, 4, 2, causal=False),
        _reversed(36, 256, 64), (256 * 64, "tokens"),
        _transformer_flops(256 * 64, 64, 128, 2, 36),
    )  # fmt: skip


def _mlp() -> Case:
    return Case(
        "mlp bf16", "cuda", "bf16", lambda m: m.MLP(), _floats((8192, 4096), 1024),
        (8192, "samples"), 6.0 * 8192 * (4096 * 16384 + 16384 * 1024),
    )  # fmt: skip


CASES = (
    _chargpt("cpu", "fp32", small=True),
    _chargpt("cpu", "fp32", small=True, ranks=4),
    _chargpt("cuda", "fp32"),
    _chargpt("cuda", "bf16"),
    _chargpt("cuda", "fp32", ranks=2),
    _chargpt("cuda", "bf16", ranks=4),
    _minigpt("bf16"),
    _minigpt("fp32"),
    _vit("bf16"),
    _vit("fp32"),
    _reversal(),
    _mlp(),
    gpt2("gpt2-124m bf16 B32", 32, 1024),
    gpt2("gpt-2 of short texts bf16 B4", 4, 128),  # the same network, for many steps
)
