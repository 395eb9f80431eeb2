"""Counters, the ring of events, and their trace."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import _C, collectives, fabric


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    vibetensor.set_cpu_devices(4)
    fabric.reset_stats()
    yield
    fabric.reset_stats()
    fabric.disable()


def test_nothing_was_done() -> None:
    found = fabric.stats()
    assert found["collective"] == {} and found["events"] == {"noted": 0, "held": 0}
    assert fabric.events() == []


def test_peer_reads_are_counted() -> None:
    fabric.enable()
    a, b = torch.ones(8, device="cpu:0"), torch.ones(8, device="cpu:1")
    for _ in range(3):
        a + b
    assert fabric.stats()["peer_read"] == {"add": {"calls": 3, "bytes": 96}}
    read = fabric.events()[-1]
    assert (read.kind, read.what, read.device, read.bytes) == ("peer_read", "add", "cpu:0", 32)
    assert [event.number for event in fabric.events(2)] == [read.number - 1, read.number]


def test_arenas_are_counted() -> None:
    tensors = fabric.symmetric_zeros(fabric.mesh("cpu:0", ranks=2), [16], torch.float32)
    taken = fabric.stats()["arena"]["take/host"]
    assert taken == {"calls": 1, "bytes": 128}
    del tensors
    assert fabric.stats()["arena"]["give_back/host"] == taken


@pytest.mark.parametrize(
    ("device", "how"), [("cpu:0", "threads"), pytest.param("cuda:0", "", marks=pytest.mark.cuda)]
)
def test_collectives_are_counted_by_algorithm(device: str, how: str) -> None:
    communicator = collectives.Communicator(fabric.mesh(device, ranks=2))
    tensors = [torch.ones(1000, device=device) for _ in range(2)]
    for _ in range(3):
        communicator.all_reduce(tensors)
    communicator.barrier()
    counted = fabric.stats()["collective"]
    (name,) = [key for key in counted if key.startswith("all_reduce/" + how)]
    assert counted[name] == {"calls": 3, "bytes": 12000}
    assert any(key.startswith("barrier") for key in counted)
    call = next(event for event in fabric.events() if event.what == "all_reduce")
    assert call.end_ns > call.start_ns and call.device == device


def test_a_dry_run_of_a_collective() -> None:
    communicator = collectives.Communicator(fabric.mesh("cpu:0", ranks=2))
    tensors = [torch.full((10,), 1.0 + rank) for rank in range(2)]
    fabric.enable("dry_run")
    with pytest.raises(_C.FabricError, match=r"dry run: 40 bytes of each rank .* by 'threads'"):
        communicator.all_reduce(tensors)
    fabric.disable()
    assert [t[0].item() for t in tensors] == [1, 2]
    communicator.all_reduce(tensors)
    assert [t[0].item() for t in tensors] == [3, 3]


def test_the_ring_forgets_the_oldest() -> None:
    _C.time_fabric_note(3 * _C.fabric_event_ring)
    found = fabric.events()
    assert len(found) == _C.fabric_event_ring
    numbers = [event.number for event in found]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert fabric.stats()["collective"]["time_note"]["calls"] == 3 * _C.fabric_event_ring
    assert fabric.stats()["events"]["held"] == _C.fabric_event_ring


def test_threads_note_and_read_at_once() -> None:
    writers = [threading.Thread(target=_C.time_fabric_note, args=(50_000,)) for _ in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        for event in fabric.events():
            assert (event.what, event.kind, event.bytes) == ("time_note", "collective", 0)
            assert event.end_ns >= event.start_ns > 0
    for writer in writers:
        writer.join()
    assert fabric.stats()["collective"]["time_note"]["calls"] == 150_000


def test_a_note_is_cheap() -> None:
    # The aim is 200 ns; a busy machine gets room.
    assert min(_C.time_fabric_note(20_000) for _ in range(5)) < 1000


def test_the_trace(tmp_path: Path) -> None:
    fabric.enable()
    torch.ones(4, device="cpu:1") * torch.ones(4, device="cpu:3")
    path = tmp_path / "trace.json"
    fabric.export_chrome_trace(path)
    trace = json.loads(path.read_text())
    names = [entry["name"] for entry in trace["traceEvents"]]
    lanes = [entry["args"].get("name") for entry in trace["traceEvents"]]
    assert "fabric cpu:1" in lanes and "mul" in names
    assert all(entry["ph"] in "MXi" for entry in trace["traceEvents"])
