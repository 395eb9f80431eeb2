"""`vibetensor topo`: the devices, the links between them, which pairs work, and how fast."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vibetensor.fabric import Pair, Speeds, Topology

_LEGEND = {
    "X": "the device itself",
    "SYS": "PCIe and the interconnect between NUMA nodes",
    "NODE": "PCIe and the interconnect between host bridges of one NUMA node",
    "PHB": "PCIe and one host bridge, as a rule the CPU",
    "PXB": "several PCIe bridges, no host bridge",
    "PIX": "one PCIe bridge at most",
    "NV#": "that many NVLinks",
    "HOST": "the memory of the host",
    "?": "not known",
}
_VERDICTS = {
    "OK": "reported by the driver and verified here: stores, copies and flags arrive",
    "VETO": "reported by the driver, but the trial failed: not used",
    "FORCED": "reported by the driver and used without a trial (VIBETENSOR_P2P=force)",
    "OFF": "reported by the driver, not used (VIBETENSOR_P2P=off)",
    "NO": "the driver reports no direct access",
}


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "topo",
        help="the devices, the links between them, and which pairs work",
        description="Prints how the devices are linked, and tries every pair of GPUs out. "
        "The exit code is 1 if a pair does not do what the driver says.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--measure", action="store_true", help="bandwidth and latency of every pair, measured"
    )
    parser.add_argument(
        "--plot", metavar="FILE", default=None, help="measure, and draw the matrices into a PNG"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the topology; 1 if a pair that the driver reports failed its trial."""
    from vibetensor.cli import topo_speed
    from vibetensor.fabric import cliques, measure, ring_order, topology

    found = topology()
    speeds = measure(found) if args.measure or args.plot is not None else None
    if args.json:
        measured = {} if speeds is None else {"measured": speeds.as_dict()}
        groups = {"cliques": cliques(found), "ring": ring_order(found=found)}
        print(json.dumps({**found.as_dict(), **groups, **measured}, indent=2))
    else:
        print(table(found, speeds))
    if speeds is not None and args.plot is not None:
        topo_speed.plot(speeds, args.plot)
    return 1 if found.bad_pairs else 0


def table(found: Topology, speeds: Speeds | None = None) -> str:
    """The text of the command."""
    from vibetensor.cli import topo_speed

    names = [node.device for node in found.nodes]
    links = [[pair.link for pair in row] for row in found.pairs]
    header = ["", *names, "CPU affinity", "NUMA affinity"]
    rows = [
        [node.device, *row, node.cpu_affinity or "all", node.numa_affinity or "N/A"]
        for node, row in zip(found.nodes, links, strict=True)
    ]
    parts = [_grid([header, *rows])]
    parts.append(
        "\n".join(
            f"{node.device}: {node.name}, {node.memory_bytes / 2**30:.1f} GiB"
            + (f", {node.pci_bus_id}" if node.pci_bus_id else "")
            for node in found.nodes
        )
    )
    parts.append(_legend(_LEGEND, {_generic(word) for row in links for word in row}))
    if len(found.nodes) > 1 and found.nodes[0].device.startswith("cuda"):
        parts += _peers(found, names)
    if len(found.nodes) > 1:
        parts.append(_groups(found))
    if speeds is not None:
        parts.append("Measured; row: the device that copies, stores or loads, column: whose memory")
        parts += [f"{title}\n{_grid(cells)}" for title, cells in topo_speed.tables(speeds)]
    parts += [f"bad pair: {a} to {b}: {why}" for a, b, why in found.bad_pairs]
    parts += [f"note: {note}" for note in found.notes]
    return "\n\n".join(parts)


def _groups(found: Topology) -> str:
    from vibetensor.fabric import cliques, ring_order

    groups = " | ".join(" ".join(clique) for clique in cliques(found))
    ring = ring_order(found=found)
    return (
        f"Devices that all reach each other: {groups}\n"
        f"Ring over the best links: {'none' if ring is None else ' '.join(ring)}"
    )


def _peers(found: Topology, names: list[str]) -> list[str]:
    def cell(pair: Pair) -> str:
        return pair.verdict + ("+A" if pair.atomics and pair.verdict not in ("X", "NO") else "")

    rows = [
        [name, *(cell(pair) for pair in row)] for name, row in zip(names, found.pairs, strict=True)
    ]
    words = {pair.verdict for row in found.pairs for pair in row}
    return [
        "Direct access, from the device of the row to memory of the column (+A: native atomics)\n"
        + _grid([["", *names], *rows]),
        _legend(_VERDICTS, words),
    ]


def _generic(link: str) -> str:
    return "NV#" if link.startswith("NV") else link


def _legend(meanings: dict[str, str], words: set[str]) -> str:
    used = {word: text for word, text in meanings.items() if word in words}
    width = max(map(len, used))
    return "\n".join(f"  {word:<{width}} = {text}" for word, text in used.items())


def _grid(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
