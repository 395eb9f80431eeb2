"""Ranks that differ, do not come, come late or give up; afterwards a correct collective runs."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import vibetensor
import vibetensor.torch as torch
from vibetensor import collectives, fabric

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
KINDS = ["all_reduce", "reduce_scatter", "all_gather", "broadcast", "reduce", "all_to_all"]
KINDS += ["gather", "scatter", "sendrecv", "barrier"]
RANKS = 3


def mesh_of(device: str) -> fabric.Mesh:
    if device == "cpu":
        vibetensor.set_cpu_devices(16)
        return fabric.mesh([f"cpu:{rank}" for rank in range(RANKS)])
    count = torch.cuda.device_count()
    return fabric.mesh([f"cuda:{rank % count}" for rank in range(RANKS)])


def arrive(comm: collectives.Communicator, kind: str, rank: int, count: int = 6) -> None:
    """A rank's part of a correct collective of that kind, of parts of `count` elements."""
    device = comm.mesh[rank]
    per_in = RANKS if kind in ("reduce_scatter", "all_to_all", "scatter") else 1
    per_out = RANKS if kind in ("all_gather", "all_to_all", "gather") else 1
    tensor = torch.full((count * per_in,), float(rank), device=device)
    out = torch.empty(count * per_out, device=device)
    ring = {"to": (rank + 1) % RANKS, "source": (rank - 1) % RANKS} if kind == "sendrecv" else {}
    comm.arrive(rank, None if kind == "barrier" else tensor, kind=kind, out=out, **ring)


def assert_works(comm: collectives.Communicator) -> None:
    rows = [torch.full((1000,), float(r + 1), device=d) for r, d in enumerate(comm.mesh.devices)]
    comm.all_reduce(rows)
    assert all((row.cpu().numpy() == 6).all() for row in rows)
    gathered = comm.all_gather(rows)
    assert all((row.cpu().numpy() == 6).all() for row in gathered)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Shells start what runs in the background with interrupts ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_that_never_comes_is_named(device: str, kind: str) -> None:
    comm = collectives.Communicator(mesh_of(device), timeout=0.1)
    for rank in (0, 1):
        arrive(comm, kind, rank)
    start = time.monotonic()
    with pytest.raises(vibetensor.FabricTimeoutError, match=rf"^{kind}.*rank 2 \(.*did not arrive"):
        comm.wait(0)
    assert time.monotonic() - start < 5
    with pytest.raises(vibetensor.FabricTimeoutError):
        comm.barrier()
    comm.reset()
    assert_works(comm)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_that_comes_late_is_waited_for(device: str, kind: str) -> None:
    comm = collectives.Communicator(mesh_of(device), timeout=20.0)
    late = threading.Timer(0.1, lambda: arrive(comm, kind, 2))
    late.start()
    for rank in (1, 0):
        arrive(comm, kind, rank)
    comm.wait(0)
    comm.wait(1)
    late.join()
    comm.wait(2)
    comm.synchronize()
    assert_works(comm)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS[:-1])
def test_another_size_or_kind_is_named_on_both_sides(device: str, kind: str) -> None:
    comm = collectives.Communicator(mesh_of(device))
    for other in ("size", "kind"):
        arrive(comm, kind, 0)
        odd = "barrier" if other == "kind" else kind
        arrive(comm, odd, 1, 7)
        arrive(comm, kind, 2)
        messages = []
        for rank in range(RANKS):
            with pytest.raises(vibetensor.FabricError) as caught:
                comm.wait(rank)
            messages.append(str(caught.value))
        assert len(set(messages)) == 1
        assert f"rank 0 calls {kind}" in messages[0] and f"rank 1 calls {odd}" in messages[0]
    assert_works(comm)


@pytest.mark.parametrize("device", DEVICES)
def test_another_dtype_root_or_partner(device: str) -> None:
    comm = collectives.Communicator(mesh_of(device))
    rows = [torch.ones(6, device=d) for d in comm.mesh.devices]
    with pytest.raises(vibetensor.FabricError, match=r"f32.*rank 1 calls all_gather of f64"):
        comm.all_gather([rows[0], rows[1].double(), rows[2]])
    comm.arrive(0, rows[0], kind="broadcast", root=0)
    comm.arrive(1, rows[1], kind="broadcast", root=1)
    comm.arrive(2, rows[2], kind="broadcast", root=0)
    with pytest.raises(vibetensor.FabricError, match=r"from rank 0 .* from rank 1"):
        comm.wait(2)
    for rank in (0, 1):
        with pytest.raises(vibetensor.FabricError):
            comm.wait(rank)
    fresh = [torch.empty(6, device=d) for d in comm.mesh.devices]
    comm.arrive(0, rows[0], kind="sendrecv", to=1)
    comm.arrive(1, rows[1], kind="sendrecv", out=fresh[1], source=2)
    with pytest.raises(vibetensor.FabricError, match=r"to rank 1 .* from rank 2"):
        comm.wait(0)
    comm.arrive(2, rows[2], kind="sendrecv", to=1)
    for rank in (1, 2):
        with pytest.raises(vibetensor.FabricError):
            comm.wait(rank)
    assert_works(comm)


@pytest.mark.parametrize("device", DEVICES)
def test_bad_shapes_and_shared_memory(device: str) -> None:
    comm = collectives.Communicator(mesh_of(device))
    devices = list(comm.mesh.devices)
    rows = [torch.ones(7, device=d) for d in devices]
    with pytest.raises(ValueError, match=r"3 ranks cannot share equally|multiple of 3"):
        comm.reduce_scatter(rows)
    with pytest.raises(ValueError, match=r"3 times the input's elements"):
        comm.all_gather(rows, out=[torch.ones(20, device=d) for d in devices])
    with pytest.raises(ValueError, match=r"1/3 of the input's elements"):
        comm.scatter(torch.ones(6, device=devices[1]), 1, out=rows)
    with pytest.raises(ValueError, match="root 3 is out of range"):
        comm.gather(rows, 3)
    with pytest.raises(ValueError, match=r"use two separate tensors"):
        nines = [torch.ones(9, device=d) for d in devices]
        comm.all_to_all(nines, out=nines)
    with pytest.raises(ValueError, match=r"own part of the output"):
        wide = [torch.ones(21, device=d) for d in devices]
        comm.all_gather([w[1:8] for w in wide], out=wide)
    with pytest.raises(ValueError, match=r"both send to rank 1"):
        comm.sendrecv(rows, [1, None, 1])
    with pytest.raises(ValueError, match=r"one tensor a rank"):
        comm.all_gather(rows[:2])
    with pytest.raises(TypeError, match="bool"):
        comm.reduce([row > 0 for row in rows])
    with pytest.raises(ValueError, match="unknown kind 'shuffle'; expected all_reduce, "):
        comm.arrive(0, rows[0], kind="shuffle")
    assert_works(comm)


@pytest.mark.parametrize("device", DEVICES)
def test_an_abort_in_the_middle(device: str) -> None:
    """Ranks wait in a call, and another thread gives it up long before the deadline."""
    comm = collectives.Communicator(mesh_of(device), timeout=30.0)
    caught: list[BaseException] = []

    def hang(rank: int) -> None:
        arrive(comm, "all_gather", rank)
        try:
            comm.wait(rank)
        except vibetensor.FabricError as error:
            caught.append(error)

    threads = [threading.Thread(target=hang, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    start = time.monotonic()
    comm.abort()
    for thread in threads:
        thread.join()
    assert time.monotonic() - start < 5
    assert len(caught) == 2 and all("aborted" in str(error) for error in caught)
    with pytest.raises(vibetensor.FabricError, match="aborted"):
        comm.barrier()
    comm.reset()
    assert_works(comm)


@pytest.mark.parametrize("device", DEVICES)
def test_an_abort_reaches_pairs_and_subgroups(device: str) -> None:
    comm = collectives.Communicator(mesh_of(device), timeout=30.0)
    some = comm.subgroup([0, 2])
    caught: list[BaseException] = []

    def hang(call: Callable[[], None]) -> None:
        try:
            call()
        except vibetensor.FabricError as error:
            caught.append(error)

    def wait_in_subgroup() -> None:
        some.arrive(1, torch.ones(3, device=some.mesh[1]))
        some.wait(1)

    tensor = torch.ones(3, device=comm.mesh[1])
    calls: list[Callable[[], None]] = [lambda: comm.send(1, tensor, 0), wait_in_subgroup]
    threads = [threading.Thread(target=hang, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    start = time.monotonic()
    comm.abort()
    for thread in threads:
        thread.join()
    assert time.monotonic() - start < 5
    assert len(caught) == 2 and all("aborted" in str(error) for error in caught)
    comm.reset()
    assert_works(comm)
    rows = [torch.ones(3, device=d) for d in some.mesh.devices]
    some.all_reduce(rows)
    assert all((row.cpu().numpy() == 2).all() for row in rows)


@pytest.mark.cuda
@pytest.mark.parametrize("timeout", [0.1, 30.0])
@pytest.mark.unsanitized("asserts seconds")
def test_synchronize_behind_a_busy_rank(timeout: float, interruptible: None) -> None:
    """Many calls wait for one deadline, not for one each; an interrupt ends a longer one."""
    mesh = mesh_of("cuda")
    comm, last = collectives.Communicator(mesh, timeout=timeout), RANKS - 1
    assert_works(comm)
    rows = [torch.ones(1 << 20, device=d) for d in mesh.devices]
    a, b = (torch.zeros(1 << 31, dtype=torch.uint8, device=mesh[last]) for _ in range(2))
    for device in mesh.devices:
        torch.cuda.synchronize(device)
    with torch.cuda.stream(torch.cuda.Stream(mesh[last])):
        for _ in range(900):  # a second and more; as many as fit in the stream's queue
            a.copy_(b)
        comm.arrive(last, rows[last])
    for rank in range(last):
        comm.arrive(rank, rows[rank])
    for _ in range(20):
        for rank in range(RANKS):
            comm.arrive(rank, rows[rank])
    interrupted = timeout > 1
    timer = threading.Timer(0.2, lambda: signal.raise_signal(signal.SIGINT))
    if interrupted:
        timer.start()
    start = time.monotonic()
    expected: type[BaseException] = KeyboardInterrupt
    named = None
    if not interrupted:
        expected = vibetensor.FabricTimeoutError
        named = rf"^collective .* waited \d+ ms for rank {last} \({mesh[last]}\) to "
    with pytest.raises(expected, match=named):
        comm.synchronize()
    assert time.monotonic() - start < 5
    comm.reset()
    torch.cuda.synchronize(mesh[last])
    assert_works(comm)


@pytest.mark.cuda(devices=2)
@pytest.mark.parametrize("algorithm", ["copy_engine", "push", "two_shot"])
@pytest.mark.unsanitized("asserts seconds")
def test_tensors_are_at_rest_when_the_error_comes(algorithm: str) -> None:
    """A GPU that comes too late still writes to the other's tensors, but only before the error."""
    mesh = fabric.mesh(["cuda:0", "cuda:1"])
    comm = collectives.Communicator(mesh, timeout=0.5, algorithm=algorithm)
    rows = fabric.symmetric_zeros(mesh, [64 << 20], torch.float32)
    for row in rows:
        row.fill_(1)
    comm.all_reduce(rows)
    comm.synchronize()
    a, b = (torch.zeros(1 << 31, dtype=torch.uint8, device="cuda:1") for _ in range(2))
    torch.cuda.synchronize(1)
    for _ in range(800):  # more than the deadline, less than two
        a.copy_(b)
    comm.all_reduce(rows)
    time.sleep(0.6)
    with pytest.raises(vibetensor.FabricTimeoutError, match="cuda:1") as caught:
        comm.barrier()
    assert "keep the tensors" not in str(caught.value)
    for row in rows:  # the memory is somebody else's now
        row.fill_(7)
    for device in mesh.devices:
        torch.cuda.synchronize(device)
    assert all(bool((row == 7).all()) for row in rows)
    comm.reset()
    comm.all_reduce(rows)
    assert all(bool((row == 14).all()) for row in rows)


@pytest.mark.cuda(devices=2)
@pytest.mark.unsanitized("asserts seconds")
def test_a_gpu_without_an_end_is_waited_for_with_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says that tensors are still in use; reset() throws until they are not."""
    monkeypatch.setenv("VIBETENSOR_FABRIC_TIMEOUT", "0.2")
    mesh = mesh_of("cuda")
    comm = collectives.Communicator(mesh, timeout=0.1)
    rows = [torch.ones(1 << 20, device=device) for device in mesh.devices]
    assert_works(comm)
    a, b = (torch.zeros(1 << 31, dtype=torch.uint8, device="cuda:1") for _ in range(2))
    for device in mesh.devices:
        torch.cuda.synchronize(device)
    for _ in range(900):  # about a second
        a.copy_(b)
    start = time.monotonic()
    comm.all_reduce(rows)
    with pytest.raises(vibetensor.FabricTimeoutError, match="keep the tensors of its calls"):
        comm.synchronize()
    with pytest.raises(vibetensor.FabricTimeoutError, match=r"reset: .* call reset"):
        comm.reset()
    with pytest.raises(vibetensor.FabricTimeoutError):
        comm.barrier()
    assert time.monotonic() - start < 0.8
    torch.cuda.synchronize(1)
    comm.reset()
    assert_works(comm)


@pytest.mark.parametrize("device", DEVICES)
def test_an_interrupt_ends_a_wait(device: str, interruptible: None) -> None:
    comm = collectives.Communicator(mesh_of(device), timeout=30.0)
    arrive(comm, "reduce", 1)
    timer = threading.Timer(0.1, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        comm.wait(1)
    assert time.monotonic() - start < 5
    comm.reset()
    assert_works(comm)


@pytest.mark.parametrize("device", DEVICES)
def test_send_and_recv_between_two_of_many(device: str) -> None:
    comm = collectives.Communicator(mesh_of(device), timeout=5.0)
    numbers = np.arange(12345, dtype=np.float32)
    sent = torch.from_numpy(numbers).to(comm.mesh[2])
    got = torch.zeros(12345, device=comm.mesh[0])
    thread = threading.Thread(target=lambda: comm.send(2, sent, 0))
    thread.start()
    comm.recv(0, got, 2)
    thread.join()
    assert (got.cpu().numpy() == numbers).all()
    short = collectives.Communicator(mesh_of(device), timeout=0.1)
    with pytest.raises(vibetensor.FabricTimeoutError, match="did not arrive"):
        short.send(1, torch.ones(3, device=comm.mesh[1]), 0)
    short.reset()
    assert_works(short)


# Memory of numpy's goes back under the GIL; handles and communicators are dropped with it held.
DROPPED = """
import threading
import numpy as np, vibetensor
import vibetensor.torch as torch
from vibetensor import collectives, fabric
vibetensor.set_cpu_devices(2)
mesh = fabric.mesh(["cpu:0", "cpu:1"])
def arrive(comm):
    for call in range(100):
        comm.arrive(0, torch.from_numpy(np.ones(64, np.float32)))
        comm.arrive(1, torch.ones(64, device="cpu:1"))
for turn in range(30):
    comm = collectives.Communicator(mesh)
    works = []
    for call in range(200):
        rows = [torch.from_numpy(np.ones(64, np.float32)), torch.ones(64, device="cpu:1")]
        works.append(comm.all_reduce(rows, async_op=True))
    thread = threading.Thread(target=arrive, args=(comm,))
    thread.start()
    while works: works.pop()
    thread.join()
    comm.all_reduce(rows, async_op=True)
    del rows, comm
print("through")
"""


def test_dropped_handles_and_tensors_do_not_wait_for_each_other() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DROPPED], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "through\n", done.stderr
