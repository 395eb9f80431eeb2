"""Questions to NVML, NVIDIA's management library; what it cannot answer is "?" or a note."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

_ANCESTORS = {0: "PIX", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}


class Nvml:
    """A session with NVML about the GPUs with the given PCI bus ids, in CUDA's order."""

    def __init__(self, bus_ids: list[str]) -> None:
        self.notes: list[str] = []
        self._bus_ids = bus_ids
        self._handles: list[Any] = [None] * len(bus_ids)
        self._module: Any = None

    def __enter__(self) -> Nvml:
        try:
            import pynvml

            pynvml.nvmlInit()
        except Exception as error:  # the package, the library or its permission is missing
            self.notes.append(f"NVML is not available ({error}): links are unknown")
            return self
        self._module = pynvml
        for i, bus_id in enumerate(self._bus_ids):
            try:
                self._handles[i] = pynvml.nvmlDeviceGetHandleByPciBusId(bus_id.encode())
            except pynvml.NVMLError as error:
                self.notes.append(f"NVML does not know cuda:{i} ({bus_id}): {error}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._module is not None:
            self._module.nvmlShutdown()

    def driver_version(self) -> str:
        """The version of the driver, or "?"."""
        return _text(self._ask("nvmlSystemGetDriverVersion") or "?")

    def cuda_version(self) -> str:
        """The CUDA version that the driver is made for, or "?"."""
        version = self._ask("nvmlSystemGetCudaDriverVersion")
        return "?" if version is None else f"{version // 1000}.{version % 1000 // 10}"

    def link(self, a: int, b: int) -> str:
        """NV# where NVLinks join the two, else the nearest common point on the way by PCIe."""
        links = self._nvlinks(a, b)
        if links:
            return f"NV{links}"
        if self._handles[a] is None or self._handles[b] is None:
            return "?"
        level = self._ask("nvmlDeviceGetTopologyCommonAncestor", self._handles[a], self._handles[b])
        return _ANCESTORS.get(level, "?") if level is not None else "?"

    def cpu_affinity(self, i: int) -> str:
        """The cores near the GPU, as "0-23,48-71"."""
        if self._handles[i] is None:
            return "?"
        words = ((os.cpu_count() or 1) + 63) // 64
        mask = self._ask("nvmlDeviceGetCpuAffinity", self._handles[i], words)
        if mask is None:
            return "?"
        cores = [
            w * 64 + bit for w, word in enumerate(mask) for bit in range(64) if word >> bit & 1
        ]
        return ranges(cores)

    def numa_affinity(self, i: int) -> str:
        """The NUMA node of the GPU's PCI slot; "N/A" on a machine with one node."""
        domain, _, rest = self._bus_ids[i].lower().partition(":")
        file = Path("/sys/bus/pci/devices") / f"{domain[-4:]}:{rest}" / "numa_node"
        try:
            node = int(file.read_text())
        except (OSError, ValueError):
            return "?"
        return str(node) if node >= 0 else "N/A"

    def _nvlinks(self, a: int, b: int) -> int:
        """How many NVLinks join two GPUs: direct ones, or those that both have to the switches."""
        ends_a, ends_b = self._link_ends(a), self._link_ends(b)
        direct = ends_a.count(_bus(self._bus_ids[b]))
        return direct or min(ends_a.count("switch"), ends_b.count("switch"))

    def _link_ends(self, i: int) -> list[str]:
        """Where each active NVLink of a GPU leads: a bus id, or "switch"."""
        ends: list[str] = []
        if self._handles[i] is None:
            return ends
        module = self._module
        for link in range(module.NVML_NVLINK_MAX_LINKS):
            if not self._ask("nvmlDeviceGetNvLinkState", self._handles[i], link):
                continue
            remote = self._ask("nvmlDeviceGetNvLinkRemotePciInfo", self._handles[i], link)
            bus = _bus(_text(remote.busId)) if remote is not None else ""
            known = bus in [_bus(other) for other in self._bus_ids]
            ends.append(bus if known else "switch")
        return ends

    def _ask(self, function: str, *args: Any) -> Any:
        """The answer, or None if NVML or this driver does not have it."""
        if self._module is None:
            return None
        try:
            return getattr(self._module, function)(*args)
        except (self._module.NVMLError, AttributeError):
            return None


def ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] as "0-2,5"."""
    parts: list[str] = []
    start = 0
    for i in range(1, len(numbers) + 1):
        if i == len(numbers) or numbers[i] != numbers[i - 1] + 1:
            first, last = numbers[start], numbers[i - 1]
            parts.append(str(first) if first == last else f"{first}-{last}")
            start = i
    return ",".join(parts)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _bus(bus_id: str) -> str:
    """A bus id in one spelling: CUDA writes the domain with four digits, NVML with eight."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{domain[-4:]}:{rest}"
