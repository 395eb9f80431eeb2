"""Which devices work well together: cliques of direct access, and orders for rings."""

from __future__ import annotations

from collections.abc import Sequence

from vibetensor.fabric.topology import Topology, topology

# The cost of a step of a ring: any NVLink beats any way over PCIe, and more of them beat fewer.
_PCIE = {"HOST": 0, "PIX": 100, "PXB": 200, "PHB": 300, "NODE": 400, "SYS": 500, "?": 600}
_EXACT = 10  # devices up to which every order of a ring is considered


def cliques(found: Topology | None = None) -> list[list[str]]:
    """The maximal sets of devices that all reach each other's memory, largest first.

    Every device is in at least one; one without usable peers is a set by itself. Pairs count if
    both directions are usable: verified, and not vetoed. The algorithm is Bron and Kerbosch's with
    a pivot (Communications of the ACM 16, 1973).

    Args:
        found: what `topology` returned; None looks now.
    """
    found = topology() if found is None else found
    count = len(found.nodes)
    peers = [{j for j in range(count) if j != i and _usable(found, i, j)} for i in range(count)]
    maximal: list[list[int]] = []

    def extend(clique: set[int], candidates: set[int], done: set[int]) -> None:
        if not candidates and not done:
            maximal.append(sorted(clique))
            return
        pivot = max(candidates | done, key=lambda v: len(peers[v] & candidates))
        for v in sorted(candidates - peers[pivot]):
            extend(clique | {v}, candidates & peers[v], done & peers[v])
            candidates = candidates - {v}
            done = done | {v}

    extend(set(), set(range(count)), set())
    maximal.sort(key=lambda clique: (-len(clique), clique))
    return [[found.nodes[i].device for i in clique] for clique in maximal]


def ring_order(
    devices: Sequence[str] | None = None, found: Topology | None = None
) -> list[str] | None:
    """An order in which each device reaches the next, and the last the first, over the best links.

    NVLinks are preferred to PCIe, more of them to fewer, and near PCIe to far. Of up to 10 devices
    the order is the best one (Held and Karp's dynamic programme over subsets); of more it is a good
    one, found by always taking the nearest device next.

    Args:
        devices: the devices; None is all.
        found: what `topology` returned; None looks now.

    Returns:
        The devices in order, starting with the first; None if no ring over usable pairs was found.

    Raises:
        ValueError: a device that the topology does not have.
    """
    found = topology() if found is None else found
    names = [node.device for node in found.nodes]
    wanted = names if devices is None else list(devices)
    for device in wanted:
        if device not in names:
            raise ValueError(f"ring_order: no device '{device}', there are {', '.join(names)}")
    where = [names.index(device) for device in wanted]
    count = len(where)
    if count < 2:
        return wanted
    cost = [[_cost(found, i, j) for j in where] for i in where]
    order = _best_ring(cost) if count <= _EXACT else _greedy_ring(cost)
    return None if order is None else [wanted[i] for i in order]


def _usable(found: Topology, i: int, j: int) -> bool:
    return found.pairs[i][j].usable and found.pairs[j][i].usable


def _cost(found: Topology, i: int, j: int) -> int | None:
    pair = found.pairs[i][j]
    if i == j or not _usable(found, i, j):
        return None
    if pair.link.startswith("NV"):
        return -int(pair.link[2:])
    return _PCIE[pair.link]


def _best_ring(cost: list[list[int | None]]) -> list[int] | None:
    count = len(cost)
    # The cheapest path from device 0 through a set of the others, by the set and its last device.
    best: dict[tuple[int, int], tuple[int, int]] = {(1, 0): (0, -1)}
    for seen in range(1, 1 << count, 2):
        for last in range(count):
            if (here := best.get((seen, last))) is None:
                continue
            for after in range(1, count):
                step = cost[last][after]
                if seen >> after & 1 or step is None:
                    continue
                key = (seen | 1 << after, after)
                if key not in best or here[0] + step < best[key][0]:
                    best[key] = (here[0] + step, last)
    full = (1 << count) - 1
    closed = [
        (best[full, last][0] + step, last)
        for last in range(1, count)
        if (full, last) in best and (step := cost[last][0]) is not None
    ]
    if not closed:
        return None
    order, seen, last = [], full, -min((length, -last) for length, last in closed)[1]
    while last != -1:
        order.append(last)
        seen, last = seen & ~(1 << last), best[seen, last][1]
    return order[::-1]


def _greedy_ring(cost: list[list[int | None]]) -> list[int] | None:
    order, left = [0], set(range(1, len(cost)))
    while left:
        steps = [(step, j) for j in left if (step := cost[order[-1]][j]) is not None]
        if not steps:
            return None
        order.append(min(steps)[1])
        left.discard(order[-1])
    return order if cost[order[-1]][0] is not None else None
