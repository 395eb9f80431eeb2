"""Copies between two GPUs, with and without peer access: every size, streams, threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import vibetensor.torch as torch
from vibetensor import cuda, fabric

pytestmark = pytest.mark.cuda(devices=2)
PIECE = 8 << 20  # bytes that travel as one
SIZES = [1, 3, 4096, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 5 * PIECE + 17]


@pytest.fixture(params=[False, True], ids=["apart", "with peer access"], autouse=True)
def access(request: pytest.FixtureRequest) -> Iterator[bool]:
    if request.param:
        fabric.enable()
    yield request.param
    fabric.disable()


def pattern(size: int, device: str, salt: int = 0) -> torch.Tensor:
    return ((torch.arange(size, device=device) * 7 + salt) % 251).to(torch.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_every_byte_arrives(size: int) -> None:
    for source, target in (("cuda:0", "cuda:1"), ("cuda:1", "cuda:0")):
        there = pattern(size, source).to(target)
        assert str(there.device) == target
        assert (there == pattern(size, target)).all().item()


def test_parts_and_neighbours() -> None:
    whole = torch.zeros(3 * PIECE, dtype=torch.uint8, device="cuda:1")
    whole[5 : PIECE + 100].copy_(pattern(PIECE + 95, "cuda:0"))
    assert (whole[5 : PIECE + 100] == pattern(PIECE + 95, "cuda:1")).all().item()
    assert whole[:5].sum().item() == 0 and whole[PIECE + 100 :].sum().item() == 0
    turned = pattern(1 << 20, "cuda:0").view(1024, 1024).t().to("cuda:1")
    assert (turned == pattern(1 << 20, "cuda:1").view(1024, 1024).t()).all().item()


def test_a_chain_of_copies_on_streams_of_ones_own() -> None:
    streams = [cuda.Stream(device="cuda:0"), cuda.Stream(device="cuda:1")]
    with cuda.stream(streams[0]), cuda.stream(streams[1]):
        value = torch.zeros(3 << 20, device="cuda:0")
        for turn in range(40):
            value = (value + 1).to(f"cuda:{(turn + 1) % 2}")
        found = (value == 40).all().item()
    assert found


def test_two_threads_at_once() -> None:
    wrong: list[int] = []

    def work(salt: int) -> None:
        source, target = ("cuda:0", "cuda:1") if salt % 2 else ("cuda:1", "cuda:0")
        with cuda.stream(cuda.Stream(device=source)), cuda.stream(cuda.Stream(device=target)):
            for turn in range(10):
                there = pattern(PIECE + 4096, source, salt + turn).to(target)
                if not (there == pattern(PIECE + 4096, target, salt + turn)).all().item():
                    wrong.append(salt)

    threads = [threading.Thread(target=work, args=(salt,)) for salt in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
