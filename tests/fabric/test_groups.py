"""Cliques of devices and orders of rings."""

from __future__ import annotations

import itertools
import random

import pytest

from vibetensor import fabric
from vibetensor.fabric.topology import Node, Pair, Topology


def machine(count: int, links: dict[tuple[int, int], str]) -> Topology:
    """Devices cuda:0 on, of which these pairs are usable, over these links."""

    def pair(i: int, j: int) -> Pair:
        link = "X" if i == j else links.get((min(i, j), max(i, j)), "")
        usable = bool(link)
        return Pair(link or "SYS", usable, usable, usable, usable, usable)

    nodes = [Node(f"cuda:{i}", "GPU", 2**36) for i in range(count)]
    return Topology(nodes, [[pair(i, j) for j in range(count)] for i in range(count)])


def test_all_reach_each_other() -> None:
    full = machine(4, dict.fromkeys(itertools.combinations(range(4), 2), "NV18"))
    assert fabric.cliques(full) == [["cuda:0", "cuda:1", "cuda:2", "cuda:3"]]
    order = fabric.ring_order(found=full)
    assert order is not None and sorted(order) == [f"cuda:{i}" for i in range(4)]


def test_two_islands_and_a_hermit() -> None:
    found = machine(5, {(0, 1): "NV4", (2, 3): "PIX"})
    assert fabric.cliques(found) == [["cuda:0", "cuda:1"], ["cuda:2", "cuda:3"], ["cuda:4"]]
    assert fabric.ring_order(found=found) is None
    assert fabric.ring_order(["cuda:3", "cuda:2"], found) == ["cuda:3", "cuda:2"]
    assert fabric.ring_order(["cuda:4"], found) == ["cuda:4"]
    assert fabric.ring_order(["cuda:0", "cuda:4"], found) is None


def test_overlapping_cliques() -> None:
    found = machine(4, {(0, 1): "PIX", (1, 2): "PIX", (0, 2): "PIX", (2, 3): "PIX"})
    assert fabric.cliques(found) == [["cuda:0", "cuda:1", "cuda:2"], ["cuda:2", "cuda:3"]]


@pytest.mark.parametrize("seed", range(8))
def test_cliques_against_all_subsets(seed: int) -> None:
    random.seed(seed)
    count = 7
    links = {p: "PIX" for p in itertools.combinations(range(count), 2) if random.random() < 0.6}
    sets = [
        set(group)
        for size in range(1, count + 1)
        for group in itertools.combinations(range(count), size)
        if all(pair in links for pair in itertools.combinations(group, 2))
    ]
    maximal = [s for s in sets if not any(s < other for other in sets)]
    found = fabric.cliques(machine(count, links))
    assert sorted(found) == sorted([f"cuda:{i}" for i in sorted(s)] for s in maximal)


def test_a_ring_prefers_nvlink() -> None:
    links = dict.fromkeys(itertools.combinations(range(4), 2), "PHB")
    for pair in ((0, 2), (1, 2), (1, 3), (0, 3)):
        links[pair] = "NV2"
    order = fabric.ring_order(found=machine(4, links))
    assert order is not None
    steps = list(zip(order, order[1:] + order[:1], strict=True))
    assert all({int(a[-1]), int(b[-1])} not in ({0, 1}, {2, 3}) for a, b in steps)


@pytest.mark.parametrize("count", [5, 12])
def test_a_ring_visits_everyone_over_usable_pairs(count: int) -> None:
    links = dict.fromkeys(itertools.combinations(range(count), 2), "PIX")
    found = machine(count, links)
    order = fabric.ring_order(found=found)
    assert order is not None and sorted(order) == sorted(n.device for n in found.nodes)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="no device 'cuda:9'"):
        fabric.ring_order(["cuda:9"], machine(2, {}))
