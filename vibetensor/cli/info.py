"""`vibetensor info`: this build, what it found on this machine, and the environment switches."""

from __future__ import annotations

import argparse
import json
import os
import platform
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "info", help="the build, the devices and the environment switches"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints what `collect` found."""
    found = collect()
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)
    return 0


def collect() -> dict[str, Any]:
    """Everything that `info` shows, as plain values."""
    import numpy

    from vibetensor import _C

    return {
        "version": _C.__version__,
        "build": _C.build_info(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "system": platform.platform(),
        "cpu": {
            "name": _cpu_name(),
            "cores": len(os.sched_getaffinity(0)),
            "threads": _C.get_num_threads(),
            "devices": _C.device_count("cpu"),
        },
        "gpus": [_gpu(index) for index in range(_C.device_count("cuda"))],
        "libraries": [
            {"name": name, "path": path, "package": package}
            for name, path, package in _C.find_vendor_libraries()
        ],
        "switches": [
            {"name": name, "value": value, "meaning": meaning}
            for name, meaning, value in _C.env_switches()
        ],
    }


def _gpu(index: int) -> dict[str, Any]:
    from vibetensor import cuda

    properties = cuda.get_device_properties(index)
    return {
        "index": index,
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _print(found: dict[str, Any]) -> None:
    cpu = found["cpu"]
    rows = {
        "vibetensor": found["version"],
        "built with": found["build"]["compiler"],
        "python": f"{found['python']}, numpy {found['numpy']}",
        "system": found["system"],
        "cpu": f"{cpu['name']}, {cpu['cores']} cores, {cpu['threads']} threads",
        "cpu devices": cpu["devices"],
    }
    for gpu in found["gpus"]:
        rows[f"cuda:{gpu['index']}"] = (
            f"{gpu['name']}, {gpu['memory_bytes'] / 2**30:.1f} GiB, compute "
            f"{gpu['compute_capability']}, {gpu['multiprocessors']} multiprocessors"
        )
    if not found["gpus"]:
        rows["gpus"] = "none" + (f" ({reason})" if (reason := _no_gpu_reason()) else "")
    width = max(len(name) for name in rows)
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")
    if found["gpus"]:
        print("\nlibraries opened where they are needed")
        width = max(len(library["name"]) for library in found["libraries"])
        for library in found["libraries"]:
            place = library["path"] or f"not found; pip install {library['package']}"
            print(f"  {library['name']:<{width}}  {place}")
    print("\nenvironment switches")
    width = max(len(switch["name"]) for switch in found["switches"])
    for switch in found["switches"]:
        value = "not set" if switch["value"] is None else f"= {switch['value']}"
        print(f"  {switch['name']:<{width}}  {value:<10}  {switch['meaning']}")


def _no_gpu_reason() -> str:
    from vibetensor import _C

    return _C.cuda_unavailable_reason()
