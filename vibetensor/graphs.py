"""CUDA graphs with PyTorch's interface: `torch.cuda.CUDAGraph`, `torch.cuda.graph`."""

from __future__ import annotations

import gc
from typing import Any

from vibetensor import _C, replay

__all__ = ["CUDAGraph", "graph", "graph_pool_handle", "is_current_stream_capturing"]


def graph_pool_handle() -> _C.MemoryPool:
    """A new memory pool of the current GPU, for graphs that never run at the same time.

    Its memory goes back once the handle, the graphs and all tensors in it are gone.
    """
    return _C.MemoryPool(_current())


def is_current_stream_capturing() -> bool:
    """Whether this thread's work on the current GPU is being captured."""
    return _C.device_count("cuda") > 0 and _C.is_capturing(_current())


class CUDAGraph:
    """Work of one GPU that is captured once and replayed with one call.

    A replay does what an eager run would do now: random numbers go on from the device's generator,
    optimizers and schedules stepped inside advance, and rates set from outside take effect. Tensors
    that the capture made live in the graph's memory and are overwritten by each replay.
    """

    def __init__(self) -> None:
        self._graph: _C.Graph | None = None
        self._pool: _C.MemoryPool | None = None
        self._recording: replay.Recording | None = None
        self._leaves: _C.LeafLog | None = None

    def capture_begin(self, pool: _C.MemoryPool | None = None) -> None:
        """Captures the current stream, which may not be the default one, from now on.

        Args:
            pool: where its memory comes from; a pool of its own if None.

        Raises:
            RuntimeError: a capture is under way already, or the stream is the default one.
        """
        if replay.recording() is not None:
            raise RuntimeError("CUDAGraph.capture_begin: this thread is capturing a graph already")
        device = _current() if pool is None else pool.device
        self.reset()
        self._pool = _C.MemoryPool(device) if pool is None else pool
        self._graph = _C.Graph(device)
        self._graph.begin(self._pool)
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
        self._graph = self._pool = self._recording = self._leaves = None

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
        self._graph = self._pool = self._recording = self._leaves = None

    def pool(self) -> _C.MemoryPool:
        """The memory of this graph, to be shared with another one."""
        if self._pool is None:
            raise RuntimeError("CUDAGraph.pool: nothing was captured")
        return self._pool

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
        pool: memory to share with other graphs, as `graph_pool_handle()` or `other.pool()` give.
        stream: which stream to capture; one of its own if None.
        capture_error_mode: as torch's; here every mode refuses what a replay could not do again.
    """

    def __init__(
        self,
        cuda_graph: CUDAGraph,
        pool: _C.MemoryPool | None = None,
        stream: _C.Stream | None = None,
        capture_error_mode: str = "global",
    ) -> None:
        if capture_error_mode not in ("global", "thread_local", "relaxed"):
            raise ValueError(
                "graph: capture_error_mode is 'global', 'thread_local' or 'relaxed', got "
                f"{capture_error_mode!r}"
            )
        self.cuda_graph = cuda_graph
        self.pool = pool
        self.stream = stream or _C.Stream()
        self._previous: _C.Stream | None = None

    def __enter__(self) -> None:
        device = self.stream.device
        # Dead tensors leave the cache to the graph's pool, which takes its memory from the driver.
        gc.collect()
        _C.synchronize(device)
        _C.empty_cache(device)
        self._previous = _C.current_stream(device)
        self.stream.wait_stream(self._previous)
        _C.set_stream(self.stream)
        try:
            self.cuda_graph.capture_begin(self.pool)
        except BaseException:
            _C.set_stream(self._previous)
            raise

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            if kind is None:
                self.cuda_graph.capture_end()
            else:
                self.cuda_graph.abandon()
        finally:
            if self._previous is not None:
                _C.set_stream(self._previous)


def _current() -> _C.device:
    return _C.device(f"cuda:{_C.current_device()}")
