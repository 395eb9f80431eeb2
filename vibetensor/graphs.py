"""CUDA graphs with PyTorch's interface: `torch.cuda.CUDAGraph`, `torch.cuda.graph`."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any, TypeAlias

from vibetensor import _C, replay

__all__ = ["CUDAGraph", "graph", "graph_pool_handle", "is_current_stream_capturing"]

Pools: TypeAlias = "_C.MemoryPool | Sequence[_C.MemoryPool] | None"


def graph_pool_handle() -> _C.MemoryPool:
    """A new memory pool of the current GPU, for graphs that never run at the same time.

    Its memory goes back once the handle, the graphs and all tensors in it are gone.
    """
    return _C.MemoryPool(_current())


def is_current_stream_capturing() -> bool:
    """Whether this thread's work on the current GPU is being captured."""
    return _C.device_count("cuda") > 0 and _C.is_capturing(_current())


class CUDAGraph:
    """Work of one GPU or several that is captured once and replayed with one call.

    A replay does what an eager run would do now: random numbers go on from the device's generator,
    optimizers and schedules stepped inside advance, and rates set from outside take effect. Tensors
    that the capture made live in the graph's memory and are overwritten by each replay.

    On several GPUs, what is queued on the current stream of each is captured. Work of one reaches
    the others by collectives, which run in the graph as they do outside.

    Args:
        devices: the GPUs; the current one if None.
        whole: one graph over all of them, whose launch is one call of the driver. False makes one
            graph a GPU, which only collectives connect.
    """

    def __init__(
        self, devices: Sequence[_C.device | int | str] | None = None, *, whole: bool = True
    ) -> None:
        self._devices = None if devices is None else gpus(devices)
        self._whole = whole
        self._graph: _C.Graph | None = None
        self._pools: list[_C.MemoryPool] = []
        self._recording: replay.Recording | None = None
        self._leaves: _C.LeafLog | None = None
        self._debug = False

    def capture_begin(self, pool: Pools = None, capture_error_mode: str = "global") -> None:
        """Captures the current stream, which may not be the default one, from now on.

        Args:
            pool: where its memory comes from, one pool for each GPU; pools of its own if None.
            capture_error_mode: as torch's; here every mode refuses what a replay could not do
                again.

        Raises:
            RuntimeError: a capture is under way already, or the stream is the default one.
            ValueError: there is no such mode, or the pools are of other GPUs.
        """
        if capture_error_mode not in ("global", "thread_local", "relaxed"):
            raise ValueError(
                "graph: capture_error_mode is 'global', 'thread_local' or 'relaxed', got "
                f"{capture_error_mode!r}"
            )
        if replay.recording() is not None:
            raise RuntimeError("CUDAGraph.capture_begin: this thread is capturing a graph already")
        pools = [pool] if isinstance(pool, _C.MemoryPool) else list(pool or [])
        devices = self._devices or ([each.device for each in pools] or [_current()])
        self.reset()
        self._pools = pools or [_C.MemoryPool(device) for device in devices]
        if [each.device for each in self._pools] != devices:
            raise ValueError(
                f"CUDAGraph.capture_begin: the graph is of {_names(devices)}, the memory of "
                f"{_names([each.device for each in self._pools])}; give one pool for each"
            )
        self._graph = _C.Graph(devices[0])
        if self._debug:
            self._graph.keep_source()
        self._graph.begin(self._pools, self._whole)
        self._recording = replay.Recording(self._graph)
        replay.set_recording(self._recording)
        self._leaves = _C.LeafLog(self._graph)

    def capture_end(self) -> None:
        """Ends the capture.

        Raises:
            RuntimeError: nothing is being captured, or the driver cannot make a graph of it.
        """
        graph = self._captured("capture_end")
        replay.set_recording(None)
        if self._leaves is not None:
            self._leaves.stop()
        try:
            graph.end()
        except Exception:
            self.leaves.undo()  # what they hold was never computed
            raise

    def abandon(self) -> None:
        """Ends a capture that failed, and drops it; the stream can be used again."""
        replay.set_recording(None)
        if self._leaves is not None:
            self._leaves.undo()
        if self._graph is not None:
            self._graph.abandon()
        self._graph = self._recording = self._leaves = None
        self._pools = []

    def replay(self) -> None:
        """Queues the captured work on the current stream.

        Raises:
            StaleGraphError: what the graph refers to was replaced, as an optimizer's state by
                `load_state_dict`; nothing was queued.
            RuntimeError: there is no graph.
        """
        self._captured("replay")
        reason = self.stale()
        if reason:
            raise replay.StaleGraphError(f"CUDAGraph.replay: {reason}; capture the graph again")
        self.run()

    def stale(self) -> str:
        """Why a replay would not do what the captured code would do now; "" if it would."""
        if self._recording is None:
            return "nothing was captured"
        return self._recording.stale()

    def settle(self) -> None:
        """Prepares optimizers for another capture, after memory was replaced."""
        if self._recording is not None:
            self._recording.settle()

    def follow(self) -> None:
        """Has this thread's later work wait for the replay before, which may still read its inputs.

        Raises:
            FabricTimeoutError: a collective of an earlier replay failed; nothing was queued.
        """
        self._captured("follow").follow()

    def run(self) -> None:
        """`replay` for who has asked `stale()` already."""
        assert self._graph is not None and self._recording is not None
        self._recording.run()
        self._graph.replay()
        self.leaves.restore_exit()

    @property
    def leaves(self) -> _C.LeafLog:
        """What the captured work expects and leaves as gradients."""
        if self._leaves is None:
            raise RuntimeError("CUDAGraph.leaves: nothing was captured")
        return self._leaves

    def reset(self) -> None:
        """Drops the graph and its hold on its memory."""
        if self._graph is not None:
            self._graph.reset()
        self._graph = self._recording = self._leaves = None
        self._pools = []

    def pool(self) -> _C.MemoryPool:
        """The memory of this graph on its first GPU, to be shared with another one."""
        return self.pools()[0]

    def pools(self) -> list[_C.MemoryPool]:
        """The memory of this graph on each of its GPUs."""
        if not self._pools:
            raise RuntimeError("CUDAGraph.pool: nothing was captured")
        return list(self._pools)

    def enable_debug_mode(self) -> None:
        """Keeps what `debug_dump` needs of later captures."""
        self._debug = True

    def debug_dump(self, debug_path: str | PathLike[str]) -> None:
        """Writes the nodes and edges of the graph to a file that Graphviz reads.

        Raises:
            RuntimeError: nothing was captured, or without `enable_debug_mode()`; or the file cannot
                be written.
        """
        self._captured("debug_dump").write_dot(fspath(debug_path))

    @property
    def devices(self) -> list[_C.device]:
        """Its GPUs, the one that it is launched from first."""
        return list(self._devices or [_current()])

    @property
    def node_count(self) -> int:
        """How many kernels, copies and the like a replay queues."""
        return int(self._captured("node_count").node_count)

    def _captured(self, what: str) -> _C.Graph:
        if self._graph is None:
            raise RuntimeError(f"CUDAGraph.{what}: nothing was captured; call capture_begin first")
        return self._graph


class graph:
    """Captures the work of a block.

    Args:
        cuda_graph: takes the work.
        pool: memory to share with other graphs, as `graph_pool_handle()` or `other.pool()` give;
            one for each GPU.
        stream: which stream to capture, or a list with one for each GPU; new ones if None.
        capture_error_mode: as torch's; here every mode refuses what a replay could not do again.
    """

    def __init__(
        self,
        cuda_graph: CUDAGraph,
        pool: Pools = None,
        stream: _C.Stream | Sequence[_C.Stream] | None = None,
        capture_error_mode: str = "global",
    ) -> None:
        self.capture_error_mode = capture_error_mode
        self.cuda_graph = cuda_graph
        self.pool = pool
        if stream is None:
            self.streams = [_C.Stream(device) for device in cuda_graph.devices]
        else:
            self.streams = [stream] if isinstance(stream, _C.Stream) else list(stream)
        self._previous: list[_C.Stream] = []

    def __enter__(self) -> None:
        if replay.recording() is not None:
            raise RuntimeError(
                "graph: this thread is capturing a graph already, and graphs do not nest; capture "
                "one after the other"
            )
        # Dead tensors leave the cache to the graph's pool, which takes its memory from the driver.
        gc.collect()
        for stream in self.streams:
            _C.synchronize(stream.device)
            _C.empty_cache(stream.device)
        self._previous = [_C.current_stream(stream.device) for stream in self.streams]
        for stream, previous in zip(self.streams, self._previous, strict=True):
            stream.wait_stream(previous)
            _C.set_stream(stream)
        try:
            self.cuda_graph.capture_begin(self.pool, self.capture_error_mode)
        except BaseException:
            self._leave()
            raise

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            if kind is None:
                self.cuda_graph.capture_end()
            else:
                self.cuda_graph.abandon()
        finally:
            self._leave()

    def _leave(self) -> None:
        for previous in self._previous:
            _C.set_stream(previous)


def gpus(devices: Sequence[_C.device | int | str]) -> list[_C.device]:
    """Each GPU of a list once, in its order.

    Raises:
        ValueError: an empty list, or a device that is no GPU.
    """
    found = [_C.device(f"cuda:{each}" if isinstance(each, int) else str(each)) for each in devices]
    if not found or any(device.type != "cuda" for device in found):
        raise ValueError(f"expected one or more GPUs, got [{_names(found)}]")
    return list(dict.fromkeys(found))


def _names(devices: Sequence[_C.device]) -> str:
    return ", ".join(str(device) for device in devices)


def _current() -> _C.device:
    return _C.device(f"cuda:{_C.current_device()}")
