"""The recording as a trace for Perfetto and chrome://tracing: a lane a thread, a lane a stream."""

from __future__ import annotations

import os
from typing import Any

CATEGORIES = {
    "op": "cpu_op",
    "backward": "cpu_op",
    "range": "user_annotation",
    "kernel": "kernel",
    "copy": "gpu_memcpy",
    "fill": "gpu_memset",
}
CALLS_LANE = 1 << 20  # lanes of CUDA calls by threads that recorded no event of their own


def trace(recording: dict[str, Any], gpus: dict[int, str]) -> dict[str, Any]:
    """The trace as plain values.

    Args:
        recording: what `_C.profiler_stop` gave.
        gpus: the name of each GPU that appears.
    """
    origin, pid = recording["start"], os.getpid()
    threads = {raw["id"]: raw["thread"] for raw in recording["host"]}
    out: list[dict[str, Any]] = []

    def when(raw: dict[str, Any]) -> dict[str, float]:
        return {
            "ts": (raw["start"] - origin) / 1e3,
            "dur": (raw["end"] - raw["start"]) / 1e3,
        }

    lanes: set[tuple[int, int]] = set()
    for raw in recording["host"]:
        lanes.add((pid, raw["thread"]))
        if raw["kind"] == "memory":
            out += _memory(raw, pid, when(raw)["ts"])
            continue
        args: dict[str, Any] = {"External id": raw["id"]}
        if "shapes" in raw:
            args["Input Dims"] = raw["shapes"]
        if "stack" in raw:
            args["Call stack"] = raw["stack"]
        out.append(
            {
                "ph": "X",
                "cat": CATEGORIES[raw["kind"]],
                "name": raw["name"],
                "pid": pid,
                "tid": raw["thread"],
                **when(raw),
                "args": args,
            }
        )
    started: dict[int, tuple[int, float]] = {}
    for raw in recording["calls"]:
        lane = threads.get(raw["event"], CALLS_LANE + raw["thread"] % CALLS_LANE)
        lanes.add((pid, lane))
        started[raw["call"]] = (lane, when(raw)["ts"])
        out.append(
            {
                "ph": "X",
                "cat": "cuda_runtime",
                "name": raw["name"],
                "pid": pid,
                "tid": lane,
                **when(raw),
                "args": {"correlation": raw["call"], "External id": raw["event"]},
            }
        )
    for raw in recording["gpu"]:
        place = {"pid": raw["device"], "tid": raw["stream"]}
        lanes.add((raw["device"], raw["stream"]))
        shown = ("grid", "block", "registers", "shared_bytes", "bytes")
        args = {name: raw[name] for name in shown if raw.get(name)}
        args |= {"correlation": raw["call"], "External id": raw["event"], "stream": raw["stream"]}
        if raw["bytes"] and raw["end"] > raw["start"]:
            args["bandwidth (GB/s)"] = round(raw["bytes"] / (raw["end"] - raw["start"]), 2)
        category = CATEGORIES[raw["kind"]]
        out.append(
            {"ph": "X", "cat": category, "name": raw["name"], **place, **when(raw), "args": args}
        )
        if raw["call"] in started:
            lane, at = started[raw["call"]]
            arrow = {"cat": "ac2g", "name": "ac2g", "id": raw["call"]}
            out.append({"ph": "s", **arrow, "pid": pid, "tid": lane, "ts": at})
            out.append({"ph": "f", "bp": "e", **arrow, **place, "ts": when(raw)["ts"]})
    return {
        "schemaVersion": 1,
        "displayTimeUnit": "ms",
        "deviceProperties": [{"id": index, "name": name} for index, name in gpus.items()],
        "traceEvents": _names(lanes, pid, gpus) + out,
    }


def _memory(raw: dict[str, Any], pid: int, at: float) -> list[dict[str, Any]]:
    held = {"allocated": raw["allocated"], "reserved": raw["reserved"]}
    return [
        {
            "ph": "i",
            "s": "t",
            "cat": "cpu_instant_event",
            "name": "[memory]",
            "pid": pid,
            "tid": raw["thread"],
            "ts": at,
            "args": {
                "Device": raw["device"],
                "Addr": raw["address"],
                "Bytes": raw["bytes"],
                "Total Allocated": raw["allocated"],
                "Total Reserved": raw["reserved"],
            },
        },
        {"ph": "C", "name": f"memory of {raw['device']}", "pid": pid, "ts": at, "args": held},
    ]


def _names(lanes: set[tuple[int, int]], pid: int, gpus: dict[int, str]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []

    def name(kind: str, process: int, thread: int, **args: object) -> None:
        out.append({"ph": "M", "name": kind, "pid": process, "tid": thread, "ts": 0, "args": args})

    name("process_name", pid, 0, name="vibetensor on the host")
    name("process_sort_index", pid, 0, sort_index=-1)
    for index, title in gpus.items():
        name("process_name", index, 0, name=f"GPU {index}: {title}")
        name("process_sort_index", index, 0, sort_index=index)
    for process, lane in sorted(lanes):
        if process != pid:
            title = f"stream {lane}"
        elif lane >= CALLS_LANE:
            title = f"CUDA calls of thread {lane - CALLS_LANE}"
        else:
            title = f"thread {lane}"
        name("thread_name", process, lane, name=title)
    return out
