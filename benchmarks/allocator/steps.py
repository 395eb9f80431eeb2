"""The allocations of training steps of a small GPT whose batch and sequence length change."""

from __future__ import annotations

import random
from collections.abc import Iterator

VOCABULARY = 50304
HALF, SINGLE = 2, 4  # bytes of an element


def parameters(layers: int, width: int) -> Iterator[int]:
    """Bytes of each block that lives through all steps: bf16 weights, fp32 masters and moments."""
    sizes = [VOCABULARY * width, 1024 * width]
    for _ in range(layers):
        sizes += [width, width, 3 * width * width, width * width, width, width]
        sizes += [4 * width * width, 4 * width * width]
    for size in sizes:
        yield size * HALF
        for _ in range(3):
            yield size * SINGLE


def shapes(steps: int, seed: int) -> Iterator[tuple[int, int]]:
    """(batch, length) of each step: buckets of batches, any length that is a multiple of 8."""
    choose = random.Random(seed)
    for _ in range(steps):
        yield choose.choice((1, 2, 3, 4, 6, 8, 12, 16)), 8 * choose.randint(8, 128)


def step(batch: int, length: int, layers: int, width: int, heads: int) -> Iterator[tuple[int, int]]:
    """(name, bytes) for an allocation, (name, 0) for its release, in the order of one step.

    Forward keeps what backward needs; backward releases it in reverse, makes a gradient for each
    weight, and the optimizer's end releases those.
    """
    rows = batch * length
    names = iter(range(1 << 30))
    saved: list[list[int]] = []
    gradients: list[int] = []

    def take(count: int, size: int, out: list[int]) -> Iterator[tuple[int, int]]:
        for _ in range(count):
            name = next(names)
            out.append(name)
            yield name, size

    def drop(out: list[int]) -> Iterator[tuple[int, int]]:
        while out:
            yield out.pop(), 0

    wide = rows * width * HALF
    ids: list[int] = []
    yield from take(2, rows * 8, ids)
    for _ in range(layers):
        kept: list[int] = []
        passing: list[int] = []
        yield from take(1, wide, kept)  # the norm's output, and its two numbers a row
        yield from take(2, rows * SINGLE, kept)
        yield from take(1, 3 * wide, kept)  # queries, keys, values
        yield from take(1, wide, kept)  # attention's output and its number a row and head
        yield from take(1, rows * heads * SINGLE, kept)
        yield from take(1, wide, passing)
        yield from take(1, wide, kept)  # the residual
        yield from drop(passing)
        yield from take(1, wide, kept)
        yield from take(2, rows * SINGLE, kept)
        yield from take(2, 4 * wide, kept)  # before and after the activation
        yield from take(1, wide, passing)
        yield from take(1, wide, kept)
        yield from drop(passing)
        saved.append(kept)
    head: list[int] = []
    yield from take(1, wide, head)
    yield from take(1, rows * VOCABULARY * HALF, head)
    yield from take(1, rows * SINGLE, head)
    yield from take(1, 4, head)
    flowing: list[int] = []
    yield from take(1, wide, flowing)
    yield from take(1, VOCABULARY * width * HALF, gradients)
    yield from drop(head)
    while saved:
        kept = saved.pop()
        passing = []
        weights = (4 * width * width, 4 * width * width, width * width, 3 * width * width)
        for temporary, weight in zip((4 * wide, wide, wide, 3 * wide), weights, strict=True):
            yield from take(1, temporary, passing)
            yield from take(1, weight * HALF, gradients)
            yield from take(2, width * HALF, gradients)
        before = flowing.copy()
        flowing.clear()
        yield from take(1, wide, flowing)
        yield from drop(before)
        yield from drop(passing)
        yield from drop(kept)
    yield from drop(flowing)
    yield from take(1, SINGLE, gradients)  # the norm of all gradients
    yield from drop(gradients)
    yield from drop(ids)
