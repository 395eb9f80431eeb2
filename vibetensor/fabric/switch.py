"""Whether operators may mix devices, and how: the fabric's switch."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from vibetensor import _C

_log = logging.getLogger("vibetensor.fabric")


@dataclass(frozen=True)
class Access:
    """Whether a kernel on `from_device` uses memory of `to_device` in place, and if not, why."""

    from_device: str
    to_device: str
    direct: bool
    reason: str


@dataclass(frozen=True)
class Route:
    """How work on a device gets at a tensor.

    `way` is "local" (it lies there), "direct" (read in place) or "copy"; `reason` says why it is
    not direct; `bytes` is what crosses between the devices.
    """

    way: str
    reason: str
    bytes: int


def enable(mode: str = "best_effort", *, peer_access: bool = True) -> list[Access]:
    """Lets elementwise operators read operands that live on another device of the same kind.

    The result of such an operator is on the device of its first operand; the kernel reads the other
    one in place where the pair of devices is verified, gradients go back to the device of each
    operand, and fences keep the memory from being reused too early. Calling it again changes the
    mode.

    Args:
        mode: "best_effort" copies an operand where there is no direct access (each reason is
            logged once, to the logger `vibetensor.fabric`), and lets communicators go through the
            host's memory there. "strict" raises instead. "dry_run" switches nothing on and moves
            nothing: it returns what would be done, and an operator over two devices raises an error
            that says how it would have read the operand.
        peer_access: maps all memory of each GPU for its verified peers. Taking memory from the
            system and giving it back then waits for all of them; the allocator does that rarely.
            Without it, only symmetric and unified memory are read in place.

    Returns:
        Every pair of devices and whether it is, or would be, direct.

    Raises:
        ValueError: no such mode.
        FabricError: "strict", and a pair has no direct access.
    """
    pairs = [
        Access(str(a), str(b), direct, reason)
        for a, b, direct, reason in _C.enable_fabric(mode, peer_access)
    ]
    if mode == "best_effort":
        for reason in dict.fromkeys(pair.reason for pair in pairs if not pair.direct):
            where = [f"{p.from_device} to {p.to_device}" for p in pairs if p.reason == reason]
            _log.warning("operands are copied from %s: %s", ", ".join(where), reason)
    return pairs


def disable() -> None:
    """Operators over several devices are errors again; waits for the devices."""
    _C.disable_fabric()


def is_enabled() -> bool:
    """Whether operators may mix devices; False in a dry run."""
    return _C.fabric_mode() in ("strict", "best_effort")


def mode() -> str:
    """The mode: "off", "strict", "best_effort" or "dry_run"."""
    return _C.fabric_mode()


def explain(tensor: _C.Tensor, device: str | _C.device) -> Route:
    """How an operator whose result is on `device` would get at the tensor. Moves nothing."""
    way, reason = _C.operand_route(tensor, device)
    return Route(way, reason, 0 if way == "local" else tensor.numel() * tensor.element_size())
