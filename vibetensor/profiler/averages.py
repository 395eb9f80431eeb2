"""Events of one name taken together, and their table."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vibetensor.profiler.events import ProfilerEvent


@dataclass
class EventAverages:
    """All events of one name (and, where asked for, of one list of input shapes or one stack).

    Times are microseconds, memory is bytes; a self value leaves out what children account for.
    """

    key: str
    on_device: bool
    input_shapes: str = ""
    count: int = 0
    cpu_time_total: float = 0.0
    self_cpu_time_total: float = 0.0
    device_time_total: float = 0.0
    self_device_time_total: float = 0.0
    cpu_memory_usage: int = 0
    self_cpu_memory_usage: int = 0
    device_memory_usage: int = 0
    self_device_memory_usage: int = 0
    stack: tuple[str, ...] = ()

    def add(self, event: ProfilerEvent) -> None:
        """Takes one more event in."""
        self.count += 1
        self.cpu_time_total += event.cpu_time_total
        self.self_cpu_time_total += event.self_cpu_time_total
        self.device_time_total += event.device_time_total
        self.self_device_time_total += event.self_device_time_total
        self.cpu_memory_usage += event.total_memory("cpu")
        self.self_cpu_memory_usage += event.self_memory("cpu")
        self.device_memory_usage += event.total_memory("cuda")
        self.self_device_memory_usage += event.self_memory("cuda")

    @property
    def cpu_time(self) -> float:
        """Mean microseconds on the host."""
        return self.cpu_time_total / self.count

    @property
    def device_time(self) -> float:
        """Mean microseconds on the GPU."""
        return self.device_time_total / self.count

    @property
    def cuda_time_total(self) -> float:
        """As `device_time_total`."""
        return self.device_time_total

    @property
    def self_cuda_time_total(self) -> float:
        """As `self_device_time_total`."""
        return self.self_device_time_total

    @property
    def cuda_time(self) -> float:
        """As `device_time`."""
        return self.device_time


SORTS = (
    "count",
    *("cpu_time", "cpu_time_total", "self_cpu_time_total"),
    *("device_time", "device_time_total", "self_device_time_total"),
    *("cpu_memory_usage", "self_cpu_memory_usage"),
    *("device_memory_usage", "self_device_memory_usage"),
)


class EventList(list[EventAverages]):
    """Averages that can be printed."""

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds on the host of all together."""
        return sum(row.self_cpu_time_total for row in self)

    def total_average(self) -> EventAverages:
        """All rows added up, named "Total"."""
        total = EventAverages("Total", on_device=False)
        sums = [field.name for field in dataclasses.fields(total) if field.default == 0]
        for row in self:
            for name in sums:
                setattr(total, name, getattr(total, name) + getattr(row, name))
        return total

    def table(
        self,
        sort_by: str | None = None,
        row_limit: int = 100,
        max_name_column_width: int = 55,
        header: str | None = None,
    ) -> str:
        """The rows as text, the largest first.

        Args:
            sort_by: a value of `EventAverages`; "cuda" may stand for "device". None keeps the order
                of first appearance.
            row_limit: how many rows; a negative number means all.
            max_name_column_width: longer names are cut.
            header: a line on top.

        Raises:
            ValueError: there is no such value.
        """
        rows = list(self)
        if sort_by is not None:
            name = sort_by.replace("cuda", "device").replace("gpu", "device")
            if name not in SORTS:
                raise ValueError(f"sort_by: expected one of {', '.join(SORTS)}, got {sort_by!r}")
            rows.sort(key=lambda row: getattr(row, name), reverse=True)
        host_total = sum(row.self_cpu_time_total for row in self)
        device_total = sum(row.self_device_time_total for row in self if row.on_device)
        columns: list[tuple[str, Callable[[EventAverages], str]]] = [
            ("Self CPU %", lambda r: _share(r.self_cpu_time_total, host_total)),
            ("Self CPU", lambda r: _time(r.self_cpu_time_total)),
            ("CPU total", lambda r: _time(r.cpu_time_total)),
            ("CPU mean", lambda r: _time(r.cpu_time)),
        ]
        if device_total:
            columns += [
                ("Self CUDA", lambda r: _time(r.self_device_time_total)),
                ("Self CUDA %", lambda r: _share(r.self_device_time_total, device_total)),
                ("CUDA total", lambda r: _time(r.device_time_total)),
                ("CUDA mean", lambda r: _time(r.device_time)),
            ]
        if any(row.cpu_memory_usage or row.self_cpu_memory_usage for row in self):
            columns += [
                ("CPU mem", lambda r: _bytes(r.cpu_memory_usage)),
                ("Self CPU mem", lambda r: _bytes(r.self_cpu_memory_usage)),
            ]
        if any(row.device_memory_usage or row.self_device_memory_usage for row in self):
            columns += [
                ("CUDA mem", lambda r: _bytes(r.device_memory_usage)),
                ("Self CUDA mem", lambda r: _bytes(r.self_device_memory_usage)),
            ]
        columns.append(("Calls", lambda r: str(r.count)))
        if any(row.input_shapes for row in self):
            columns.append(("Input shapes", lambda r: r.input_shapes))
        if any(row.stack for row in self):
            columns.append(("Source", lambda r: " < ".join(r.stack)))
        shown = rows if row_limit < 0 else rows[:row_limit]
        cells = [[title for title, _ in columns]]
        cells += [[value(row) for _, value in columns] for row in shown]
        names = ["Name"] + [
            _cut(readable(row.key) if row.on_device else row.key, max_name_column_width)
            for row in shown
        ]
        widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
        name_width = max(len(name) for name in names)
        lines = [
            "  ".join(
                [f"{name:{name_width}}", *(f"{c:>{w}}" for c, w in zip(line, widths, strict=True))]
            )
            for name, line in zip(names, cells, strict=True)
        ]
        rule = "-" * max(len(line) for line in lines)
        out = [header] if header else []
        out += [rule, lines[0], rule, *lines[1:], rule]
        out.append(f"Self CPU time total: {_time(host_total)}")
        if device_total:
            out.append(f"Self CUDA time total: {_time(device_total)}")
        return "\n".join(out) + "\n"

    def __str__(self) -> str:
        return self.table()


def average(events: Iterable[ProfilerEvent], by_shape: bool, stack_frames: int = 0) -> EventList:
    """One row a name, kernels apart from operations; a row a list of shapes if `by_shape`, and a
    row for each stack of that many frames, the innermost ones."""
    rows: dict[tuple[str, bool, str, tuple[str, ...]], EventAverages] = {}
    for event in events:
        if event.kind == "memory":
            continue
        shapes = event.input_shapes if by_shape else ""
        stack = event.stack[:stack_frames]
        key = (event.name, event.device is not None, shapes, stack)
        if key not in rows:
            rows[key] = EventAverages(*key[:3], stack=stack)
        rows[key].add(event)
    return EventList(rows.values())


def readable(kernel: str) -> str:
    """The name of a kernel without what all have: its parameters, return type and namespaces.

    What a demangler gave up on loses its template arguments, too.
    """
    if kernel.startswith("_ZN"):
        return _unmangled(kernel, len("_ZN"))
    name = re.sub(
        r"\(anonymous namespace\)::|\b(?:vt|at|c10|cub|CUB_\w+|std|cuda|functor|native|detail)::",
        "",
        kernel,
    )
    depth = 0
    for i, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0 and i > 0:
            name = name[:i]
            break
    return name.removeprefix("void ").strip()


def _unmangled(kernel: str, at: int) -> str:
    parts = []
    while found := re.compile(r"\d+").match(kernel, at):
        end = found.end() + int(found[0])
        parts.append(kernel[found.end() : end])
        at = end
    return "::".join(parts) + ("<...>" if kernel[at : at + 1] == "I" else "")


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 3] + "..."


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f}%" if whole else "--"


def _time(us: float) -> str:
    if abs(us) >= 1e6:
        return f"{us / 1e6:.3f}s"
    return f"{us / 1e3:.3f}ms" if abs(us) >= 1e3 else f"{us:.3f}us"


def _bytes(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(count) >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B"
