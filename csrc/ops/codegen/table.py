"""Reads the table's files into operators and kernels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from .schema import Op, parse


@dataclass(frozen=True)
class Kernel:
    """A structured kernel: its name and the C++ text of its parameters."""

    name: str
    parameters: str


@dataclass(frozen=True)
class Table:
    """Everything the table says."""

    ops: list[Op]
    kernels: list[Kernel]

    @property
    def pointwise(self) -> list[Op]:
        return [op for op in self.ops if op.kind == "pointwise"]


def load(folder: Path) -> Table:
    """All ``*.yaml`` of a folder, in the order of their names."""
    ops: list[Op] = []
    kernels: list[Kernel] = []
    for path in sorted(folder.glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text()) or []:
            if "kernel" in entry:
                match = re.match(r"^(\w+)\((.*)\)$", entry["kernel"])
                if not match:
                    raise ValueError(f"{path.name}: cannot read the kernel {entry['kernel']!r}")
                kernels.append(Kernel(match[1], match[2]))
            else:
                ops.append(parse(entry))
    names = [op.name for op in ops]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"operator table: defined twice: {sorted(twice)}")
    return Table(ops, kernels)
