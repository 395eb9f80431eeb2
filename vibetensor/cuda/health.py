"""How a GPU is doing, whoever uses it: what NVIDIA's management library (NVML) tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vibetensor import _C
from vibetensor.cuda.devices import DeviceLike, place

__all__ = [
    "clock_rate",
    "device_memory_used",
    "list_gpu_processes",
    "memory_usage",
    "power_draw",
    "temperature",
    "utilization",
]


def utilization(device: DeviceLike = None) -> int:
    """Per cent of the last sampling period in which a kernel ran.

    Raises:
        ModuleNotFoundError: the package nvidia-ml-py is not installed. So with all of these.
        RuntimeError: there is no such GPU, or NVML does not answer. So with all of these.
    """
    return int(_ask(device, lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu))


def memory_usage(device: DeviceLike = None) -> int:
    """Per cent of the last sampling period in which memory was read or written."""
    return int(_ask(device, lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).memory))


def device_memory_used(device: DeviceLike = None) -> int:
    """Bytes in use, by all processes and the driver."""
    return int(_ask(device, lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used))


def temperature(device: DeviceLike = None) -> int:
    """Degrees Celsius."""
    return int(_ask(device, lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, 0)))


def power_draw(device: DeviceLike = None) -> int:
    """Milliwatts, the mean of the last second."""
    return int(_ask(device, lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu)))


def clock_rate(device: DeviceLike = None) -> int:
    """MHz of the multiprocessors now."""
    return int(_ask(device, lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, 1)))


def list_gpu_processes(device: DeviceLike = None) -> str:
    """The processes that compute on a GPU with the memory of each, as text to read."""
    found = _ask(device, lambda nvml, gpu: nvml.nvmlDeviceGetComputeRunningProcesses(gpu))
    lines = [f"GPU:{place(device).index}"]
    for each in found:
        used = each.usedGpuMemory
        size = "an unknown amount of" if used is None else f"{used / 2**20:.3f} MB"
        lines.append(f"process {each.pid:>10d} uses {size} GPU memory")
    return "\n".join(lines if found else [*lines, "no processes are running"])


def _ask(device: DeviceLike, question: Callable[[Any, Any], Any]) -> Any:
    properties = _C.device_properties(place(device))
    bus = (properties.pci_domain_id, properties.pci_bus_id, properties.pci_device_id)
    with _nvml() as nvml:
        try:
            gpu = nvml.nvmlDeviceGetHandleByPciBusId(f"{bus[0]:08x}:{bus[1]:02x}:{bus[2]:02x}.0")
            return question(nvml, gpu)
        except nvml.NVMLError as error:
            raise RuntimeError(f"NVML does not answer about {place(device)}: {error}") from error


@contextmanager
def _nvml() -> Iterator[Any]:
    try:
        import pynvml
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "NVML is asked through the package nvidia-ml-py: pip install nvidia-ml-py"
        ) from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise RuntimeError(f"NVML does not start: {error}") from error
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()
