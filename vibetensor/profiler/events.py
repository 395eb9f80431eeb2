"""Events of a recording as a tree: who called whom, which kernels an operation started."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ProfilerEvent:
    """Something with a name and a length. Times are microseconds from the start of the recording.

    Attributes:
        name: of the operation, range, kernel or copy.
        kind: op, backward, range, memory (on a host thread); kernel, copy, fill (on a GPU).
        start, end: when.
        thread: of the host, from 0; for a GPU its stream.
        device: None on the host, else the index of the GPU.
        input_shapes: "[[2, 3], []]" where recorded, else "".
        stack: "file:line function" from the innermost outwards, where recorded.
        parent, children: the event around, and those inside.
        kernels: what the GPU did for this event itself, not for its children.
        memory: bytes taken minus bytes given back by this event itself, by device.
        details: what else is known, as bytes of a copy and the grid of a kernel.
    """

    name: str
    kind: str
    start: float
    end: float
    thread: int
    device: int | None = None
    input_shapes: str = ""
    stack: tuple[str, ...] = ()
    parent: ProfilerEvent | None = field(default=None, repr=False)
    children: list[ProfilerEvent] = field(default_factory=list, repr=False)
    kernels: list[ProfilerEvent] = field(default_factory=list, repr=False)
    memory: dict[str, int] = field(default_factory=dict, repr=False)
    details: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def duration(self) -> float:
        """Microseconds from start to end."""
        return self.end - self.start

    @property
    def cpu_time_total(self) -> float:
        """Microseconds on the host; 0 for work of a GPU."""
        return self.duration if self.device is None else 0.0

    @property
    def self_cpu_time_total(self) -> float:
        """Of those, what no child accounts for."""
        return self.cpu_time_total - sum(child.cpu_time_total for child in self.children)

    @property
    def self_device_time_total(self) -> float:
        """Microseconds that the GPU worked for this event itself."""
        if self.device is not None:
            return self.duration
        return sum(kernel.duration for kernel in self.kernels)

    @property
    def device_time_total(self) -> float:
        """Microseconds that the GPU worked for this event and its children."""
        return self.self_device_time_total + sum(c.device_time_total for c in self.children)

    @property
    def cuda_time_total(self) -> float:
        """As `device_time_total`."""
        return self.device_time_total

    def self_memory(self, device: str) -> int:
        """Bytes that this event itself took minus gave back on "cpu" or "cuda"."""
        return sum(n for name, n in self.memory.items() if name.startswith(device))

    def total_memory(self, device: str) -> int:
        """Bytes that this event and its children took minus gave back on "cpu" or "cuda"."""
        return self.self_memory(device) + sum(c.total_memory(device) for c in self.children)


def build(recording: dict[str, Any]) -> list[ProfilerEvent]:
    """The events of what `_C.profiler_stop` gave, connected, in order of their start."""
    origin = recording["start"]
    known: dict[int, ProfilerEvent] = {}
    result: list[ProfilerEvent] = []
    for raw in recording["host"]:
        event = ProfilerEvent(
            raw["name"],
            raw["kind"],
            (raw["start"] - origin) / 1e3,
            (raw["end"] - origin) / 1e3,
            raw["thread"],
            input_shapes=raw.get("shapes", ""),
            stack=tuple(raw.get("stack", "").splitlines()),
        )
        known[raw["id"]] = event
        result.append(event)
        if event.kind == "memory":
            event.details = {k: raw[k] for k in ("device", "bytes", "allocated", "reserved")}
    for raw, event in zip(recording["host"], list(result), strict=True):
        parent = known.get(raw["parent"])
        if parent is None:
            continue
        event.parent = parent
        if event.kind == "memory":
            place = raw["device"]
            parent.memory[place] = parent.memory.get(place, 0) + raw["bytes"]
        else:
            parent.children.append(event)
    for raw in recording["gpu"]:
        details = ("bytes", "grid", "block", "registers", "shared_bytes", "call")
        event = ProfilerEvent(
            raw["name"],
            raw["kind"],
            (raw["start"] - origin) / 1e3,
            (raw["end"] - origin) / 1e3,
            raw["stream"],
            device=raw["device"],
            details={name: raw[name] for name in details if name in raw},
        )
        if (owner := known.get(raw["event"])) is not None:
            event.parent = owner
            owner.kernels.append(event)
        result.append(event)
    return sorted(result, key=lambda event: event.start)
