"""What the fabric did: counters since the start, and the last events with their times."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from vibetensor import _C


@dataclass(frozen=True)
class Event:
    """One thing that the fabric did.

    `start_ns` and `end_ns` are the host's clock: how long the call took that queued the work, not
    how long the devices needed for it (the profiler tells that). They are equal for a moment.
    `kind` is one of collective, copy, peer_read, fence, arena, managed and access; `what` names the
    work, as "all_reduce" or "add", and `how` the way, as "two_shot", where there are several.
    `bytes` of a collective are those of one rank.
    """

    number: int
    start_ns: int
    end_ns: int
    kind: str
    device: str
    thread: int
    bytes: int
    what: str
    how: str


def stats() -> dict[str, Any]:
    """Counts of calls and bytes since the process started or `reset_stats` was called.

    Returns:
        A dict of the kinds of work. Each is a dict of names ("all_reduce/two_shot", "add",
        "device_to_device") to `{"calls": n, "bytes": b}`; bytes of a collective are those of one
        rank. "events" says how many events were noted and how many of them the ring still holds.
    """
    result: dict[str, Any] = {
        kind: {}
        for kind in ("collective", "copy", "peer_read", "fence", "arena", "managed", "access")
    }
    for kind, what, how, calls, size in _C.fabric_counters():
        result[kind][f"{what}/{how}" if how else what] = {"calls": calls, "bytes": size}
    noted = _C.fabric_events_noted()
    result["events"] = {"noted": noted, "held": min(noted, _C.fabric_event_ring)}
    return result


def reset_stats() -> None:
    """Sets all counters to zero and empties the ring."""
    _C.reset_fabric_events()


def events(last: int | None = None) -> list[Event]:
    """The last events, oldest first.

    Args:
        last: how many at most; None for all that the ring holds (4096).
    """
    found = [
        Event(number, start, end, kind, str(device), thread, size, what, how)
        for number, start, end, kind, device, thread, size, what, how in _C.fabric_events()
    ]
    return found if last is None else found[max(len(found) - last, 0) :]


def chrome_trace(found: list[Event] | None = None) -> dict[str, Any]:
    """Events as a trace for ui.perfetto.dev and chrome://tracing: a lane a thread of each device.

    Args:
        found: what `events` returned; None asks it.
    """
    found = events() if found is None else found
    devices = sorted({event.device for event in found})
    lanes: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": i, "args": {"name": f"fabric {device}"}}
        for i, device in enumerate(devices)
    ]
    for event in found:
        lasts = event.end_ns > event.start_ns
        lanes.append(
            {
                "name": f"{event.what} {event.how}".strip(),
                "cat": event.kind,
                "ph": "X" if lasts else "i",
                "ts": event.start_ns / 1e3,
                "pid": devices.index(event.device),
                "tid": event.thread,
                "args": {"bytes": event.bytes, "number": event.number},
                **({"dur": (event.end_ns - event.start_ns) / 1e3} if lasts else {"s": "t"}),
            }
        )
    return {"traceEvents": lanes, "displayTimeUnit": "ns"}


def export_chrome_trace(path: str | os.PathLike[str]) -> None:
    """Writes the events that the ring holds as a trace for ui.perfetto.dev.

    Raises:
        OSError: the file cannot be written.
    """
    from vibetensor import io

    with io.atomic_file(path) as file:
        file.write(json.dumps(chrome_trace()).encode())
