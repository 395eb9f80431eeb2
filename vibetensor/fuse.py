"""The step compiler: operators of a step are put off, looked at together, and run as fewer kernels.

`vibetensor.capture(step, fuse=True)` is what people use; `recording` does the same to a block of
eager code.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from vibetensor import _C

__all__ = ["FusedKernel", "Report", "passes", "recording"]

_log = logging.getLogger("vibetensor.fuse")

Choice = bool | Mapping[str, bool] | Iterable[str]


def passes() -> dict[str, str]:
    """The name of each pass, and what it does."""
    return dict(_C.fuse_passes())


def chosen(fuse: Choice) -> list[str]:
    """The names of the passes that a choice switches on.

    Args:
        fuse: True for all, False for none; names for just those; or {name: False} for all but
            those.

    Raises:
        ValueError: there is no pass of such a name.
    """
    known = passes()
    if isinstance(fuse, bool):
        return list(known) if fuse else []
    given = dict(fuse) if isinstance(fuse, Mapping) else dict.fromkeys(fuse, True)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"fuse: there is no pass named {unknown[0]!r}; there are {sorted(known)}")
    if isinstance(fuse, Mapping):
        return [name for name in known if given.get(name, True)]
    return [name for name in known if name in given]


@dataclasses.dataclass(frozen=True)
class FusedKernel:
    """One generated kernel: what it computes, and how often it was launched.

    Attributes:
        operators: their names in order, separated by blanks.
        elements: of the space that it runs over.
        steps, loads, stores: operators in it, pieces of memory read and written.
        launches: in the recording.
        bytes_saved: by all launches, against its operators one by one.
    """

    operators: str
    elements: int
    steps: int
    loads: int
    stores: int
    launches: int
    bytes_saved: int


@dataclasses.dataclass(frozen=True)
class Report:
    """What a recording did.

    Attributes:
        recorded: operators that were put off, each a launch without the compiler.
        passed_by: operators that ran as they came.
        launched: what ran in place of the recorded ones.
        dropped: operators that nothing needed.
        not_stored: values that stayed in registers.
        bytes_saved: memory traffic that fused kernels did without.
        flushes: how often something needed what was pending.
        rewrites: how often each structured pattern was found.
        alone: how often each operator ran by itself.
        failure: why a kernel ran unfused, the first time; "" if none did.
        kernels: what was generated.
        compiled, from_disk, compile_seconds: kernels compiled and found on disk by this process.
    """

    recorded: int
    passed_by: int
    launched: int
    dropped: int
    not_stored: int
    bytes_saved: int
    flushes: int
    rewrites: dict[str, int]
    alone: dict[str, int]
    failure: str
    kernels: list[FusedKernel]
    compiled: int
    from_disk: int
    compile_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """For json.dumps."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.recorded + self.passed_by} launches became {self.launched + self.passed_by}: "
            f"{self.dropped} operators dropped, {self.not_stored} values kept in registers, "
            f"{self.bytes_saved / 2**20:.1f} MiB not moved"
        ]
        lines += [f"{name}: {count} times" for name, count in sorted(self.rewrites.items())]
        lines.append(
            f"{'launches':>8} {'elements':>12} {'loads':>5} {'stores':>6} {'MiB saved':>9}"
        )
        for kernel in sorted(self.kernels, key=lambda each: -each.bytes_saved):
            lines.append(
                f"{kernel.launches:8d} {kernel.elements:12d} {kernel.loads:5d} {kernel.stores:6d} "
                f"{kernel.bytes_saved / 2**20:9.1f}  {kernel.operators}"
            )
        alone = sorted(self.alone.items(), key=lambda each: -each[1])
        if alone:
            lines.append("alone: " + ", ".join(f"{name} {count}" for name, count in alone))
        if self.compiled or self.from_disk:
            lines.append(
                f"this process: {self.compiled} kernels compiled in {self.compile_seconds:.1f} s, "
                f"{self.from_disk} found on disk"
            )
        if self.failure:
            lines.append("ran unfused: " + self.failure.partition("\n")[0])
        return "\n".join(lines)


class recording:
    """Operators of this thread inside are put off and run fused, at the end or when needed.

    Values may be read at any time; reading runs what is pending. Nothing is different outside.

    Args:
        fuse: the passes, as in `vibetensor.capture`.

    Attributes:
        report: what was done, once the block is left; None before, and where it runs unfused.

    Raises:
        ValueError: there is no pass of such a name.
        RuntimeError: another recording is active.
    """

    def __init__(self, fuse: Choice = True) -> None:
        self._passes = chosen(fuse)
        self.report: Report | None = None

    def __enter__(self) -> recording:
        if self._passes and _C.device_count("cuda") > 0:
            reason = _C.fuse_unavailable_reason()
            if reason:
                _log_once(reason)
                self._passes = []
        if self._passes:
            _C.fuse_begin(self._passes)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._passes:
            return
        try:
            found = _C.fuse_end()
        except Exception:
            if kind is None:
                raise
            return  # the error that left the block says more
        found["kernels"] = [FusedKernel(**each) for each in found["kernels"]]
        self.report = Report(**found)
        if self.report.failure:
            _log_once(f"a kernel ran unfused: {self.report.failure}")


_logged: set[str] = set()


def _log_once(reason: str) -> None:
    if reason not in _logged:
        _logged.add(reason)
        _log.warning("fuse: %s", reason)
