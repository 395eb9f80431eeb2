"""Operations as ranges of NVIDIA's profilers."""

from __future__ import annotations

from types import TracebackType

from vibetensor import _C


class emit_nvtx:
    """Makes every operation in a block a range of NVTX, which Nsight Systems shows.

    Args:
        enabled: False leaves everything as it is.
        record_shapes: add the shapes of inputs to the names.

    Raises:
        RuntimeError: on entry, if another such block is active.
    """

    _active = False

    def __init__(self, enabled: bool = True, record_shapes: bool = False) -> None:
        self.enabled = enabled
        self.record_shapes = record_shapes

    def __enter__(self) -> emit_nvtx:
        if self.enabled:
            if emit_nvtx._active:
                raise RuntimeError("emit_nvtx: another block is active; ranges would come twice")
            emit_nvtx._active = True
            _C.emit_ranges(True, self.record_shapes)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.enabled:
            emit_nvtx._active = False
            _C.emit_ranges(False, False)
