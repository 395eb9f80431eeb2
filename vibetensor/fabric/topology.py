"""What the machine looks like: its devices, how pairs of them are linked, and which pairs work."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from vibetensor import _C
from vibetensor.fabric.nvml import Nvml


@dataclass(frozen=True)
class Node:
    """One device: its id, its name, where it sits, and how much memory it has (bytes)."""

    device: str
    name: str
    memory_bytes: int
    pci_bus_id: str = ""
    cpu_affinity: str = ""
    numa_affinity: str = ""


@dataclass(frozen=True)
class Pair:
    """How a kernel on one device gets at the memory of another.

    `link` is the shortest word for the way: NV# (that many NVLinks), PIX, PXB, PHB, NODE, SYS, HOST
    (CPU devices share the host's memory), X (the same device) or ? (unknown). `reported` is what
    the driver says, `verified` the result of the trial at first use, `veto` why a reported pair is
    not used.
    """

    link: str
    reported: bool
    verified: bool
    usable: bool
    tried: bool
    atomics: bool
    veto: str = ""

    @property
    def bad(self) -> bool:
        """Whether the driver promised what the trial then did not find."""
        return self.tried and not self.verified

    @property
    def verdict(self) -> str:
        """X, OK, FORCED, VETO, OFF or NO: one word for the table."""
        if self.link == "X":
            return "X"
        if not self.reported:
            return "NO"
        if self.bad:
            return "VETO"
        if not self.usable:
            return "OFF"
        return "OK" if self.verified else "FORCED"


@dataclass(frozen=True)
class Topology:
    """The devices of one kind and what lies between them; `pairs[i][j]` is from i to j."""

    nodes: list[Node]
    pairs: list[list[Pair]]
    notes: list[str] = field(default_factory=list)

    @property
    def bad_pairs(self) -> list[tuple[str, str, str]]:
        """(from, to, why) of each pair that the driver reports and the trial rejects."""
        return [
            (self.nodes[i].device, self.nodes[j].device, pair.veto)
            for i, row in enumerate(self.pairs)
            for j, pair in enumerate(row)
            if pair.bad
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "devices": [asdict(node) for node in self.nodes],
            "pairs": [
                {
                    "from": self.nodes[i].device,
                    "to": self.nodes[j].device,
                    **asdict(pair),
                    "verdict": pair.verdict,
                }
                for i, row in enumerate(self.pairs)
                for j, pair in enumerate(row)
                if i != j
            ],
            "notes": self.notes,
        }


def topology() -> Topology:
    """Looks at the GPUs or, where there are none, at the CPU devices of the process.

    Every pair of GPUs that the driver reports as peers is tried out, once a process.
    """
    if _C.device_count("cuda"):
        return _gpus(_C.device_count("cuda"))
    return _cpus(_C.device_count("cpu"))


def _cpus(count: int) -> Topology:
    nodes = []
    for index in range(count):
        properties = _C.device_properties(_C.device(f"cpu:{index}"))
        nodes.append(Node(f"cpu:{index}", properties.name, properties.total_memory))
    pairs = [
        [_pair("X" if i == j else "HOST", a, b) for j, b in enumerate(nodes)]
        for i, a in enumerate(nodes)
    ]
    return Topology(nodes, pairs)


def _gpus(count: int) -> Topology:
    properties = [_C.device_properties(_C.device(f"cuda:{i}")) for i in range(count)]
    bus_ids = [
        f"{p.pci_domain_id:04x}:{p.pci_bus_id:02x}:{p.pci_device_id:02x}.0" for p in properties
    ]
    with Nvml(bus_ids) as nvml:
        nodes = [
            Node(
                device=f"cuda:{i}",
                name=p.name,
                memory_bytes=p.total_memory,
                pci_bus_id=bus_ids[i],
                cpu_affinity=nvml.cpu_affinity(i),
                numa_affinity=nvml.numa_affinity(i),
            )
            for i, p in enumerate(properties)
        ]
        pairs = [
            [_pair("X" if i == j else nvml.link(i, j), a, b) for j, b in enumerate(nodes)]
            for i, a in enumerate(nodes)
        ]
        return Topology(nodes, pairs, nvml.notes)


def _pair(link: str, a: Node, b: Node) -> Pair:
    return Pair(link=link, **_C.peer_state(a.device, b.device))
