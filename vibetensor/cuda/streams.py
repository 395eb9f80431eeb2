"""Streams and events: queues of work on a GPU, and marks in them."""

from __future__ import annotations

from vibetensor import _C
from vibetensor.cuda.devices import DeviceLike, place

Event = _C.Event
Stream = _C.Stream


def ExternalStream(stream_ptr: int, device: DeviceLike = None) -> _C.Stream:
    """A stream that another library made, from its `cudaStream_t` as a number.

    The caller keeps it alive for as long as it, memory allocated for it, or a gradient that a
    backward pass on it has changed, is used.
    """
    return _C.external_stream(stream_ptr, place(device))


def get_stream_from_external(data_ptr: int, device: DeviceLike = None) -> _C.Stream:
    """As `ExternalStream`."""
    return ExternalStream(data_ptr, device)


def current_stream(device: DeviceLike = None) -> _C.Stream:
    """The stream that this thread queues work of a GPU on."""
    return _C.current_stream(place(device))


def default_stream(device: DeviceLike = None) -> _C.Stream:
    """The stream that every thread starts with."""
    return _C.default_stream(place(device))


def set_stream(stream: _C.Stream | None) -> None:
    """Makes it the stream that this thread queues work of its GPU on; None changes nothing."""
    if stream is not None:
        _C.set_stream(_checked("set_stream", stream))
        _C.set_device(stream.device.index)


class stream:
    """Queues work on one stream, on its GPU, within a block; None changes nothing."""

    def __init__(self, stream: _C.Stream | None) -> None:
        self.stream = None if stream is None else _checked("stream", stream)
        self._previous: list[tuple[_C.Stream, int]] = []

    def __enter__(self) -> None:
        if self.stream is not None:
            self._previous.append((_C.current_stream(self.stream.device), _C.current_device()))
            set_stream(self.stream)

    def __exit__(self, *_: object) -> None:
        if self.stream is not None:
            before, index = self._previous.pop()
            _C.set_stream(before)
            _C.set_device(index)


StreamContext = stream


def _checked(what: str, stream: object) -> _C.Stream:
    if not isinstance(stream, _C.Stream):
        raise TypeError(f"torch.cuda.{what}: expected a Stream or None, got {stream!r}")
    return stream
