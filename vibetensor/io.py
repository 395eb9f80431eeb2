"""save and load: dicts, lists and tuples of tensors and plain values in one safetensors file.

Tensors lie in the file under readable names; the structure around them is JSON in its metadata.
Nothing in a file is ever executed. A file that is written replaces the old one in one step, so
there is always a whole one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from vibetensor import _C, safetensors_file
from vibetensor.safetensors_file import CheckpointError

Tensor = _C.Tensor

__all__ = ["CheckpointError", "atomic_file", "load", "save"]

_HOME = ("cpu:0", "cpu")  # where tensors are read to; other devices are noted in the file
_STRUCTURE = "vibetensor"  # the metadata entry that holds the JSON


def save(obj: Any, f: str | os.PathLike[str] | BinaryIO) -> None:
    """Writes `obj` to a path, atomically, or to an open binary file.

    Args:
        obj: tensors, str, int, float, bool and None in dicts (keys str or int), lists and tuples.
            Fabric tensors are written whole, and load as tensors on the CPU.
        f: a path; the file under it is replaced only when the new one is safe on disk.

    Raises:
        TypeError: something else in `obj`; the message says where.
        OSError: the file cannot be written, for instance because the disk is full. What was there
            before is intact.
    """
    packer = _Packer()
    structure = packer.pack(obj, "")
    metadata = {_STRUCTURE: json.dumps(structure)}
    if not isinstance(f, (str, os.PathLike)):
        safetensors_file.write(f, packer.tensors, metadata)
        return
    with atomic_file(f) as file:
        safetensors_file.write(file, packer.tensors, metadata)


def load(
    f: str | os.PathLike[str] | BinaryIO, map_location: Any = None, *, weights_only: bool = True
) -> Any:
    """Reads what `save` wrote. A safetensors file from elsewhere gives a dict of its tensors.

    Args:
        f: a path or an open binary file.
        map_location: the device for all tensors; by default each returns to the device it was saved
            from.
        weights_only: for compatibility; a file cannot hold code.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is no checkpoint, or is cut short.
        RuntimeError: a tensor was saved from a device that is not here, and `map_location` is not
            given.
    """
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb") as file:
            return _unpacked(file, os.fspath(f), map_location)
    return _unpacked(f, getattr(f, "name", "checkpoint"), map_location)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` at the end of the block, once it is on disk.

    If the block or the disk fails, `path` stays as it was and nothing is left behind.
    """
    target = os.path.abspath(os.fspath(path))
    folder, name = os.path.split(target)
    handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(folder).free
            raise OSError(
                error.errno,
                f"no space left to write {target} ({free} bytes free); what was there before is "
                "intact. Free some space and save again",
            ) from error
        raise
    _sync_folder(folder)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: str) -> None:
    """Makes the rename itself survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Packer:
    """Takes tensors out of a structure, leaving JSON: plain values as they are, all else as a
    one-key dict.

    {"tensor": name, ...}, {"dict": [[key, value], ...]}, {"list": [...]}, {"tuple": [...]}
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[tuple[Any, ...], str] = {}
        self._wholes: dict[tuple[int, ...], tuple[_C.FabricTensor, Tensor]] = {}

    def pack(self, obj: Any, path: str) -> Any:
        """The JSON for `obj`, which lies at `path` of the whole."""
        if obj is None or isinstance(obj, (str, bool, int, float)):
            return obj
        if isinstance(obj, Tensor):
            return self._tensor(obj, path or "tensor")
        if isinstance(obj, _C.FabricTensor):
            return self._tensor(self._whole(obj), path or "tensor")
        if isinstance(obj, dict):
            for key in obj:
                if not isinstance(key, (str, int)) or isinstance(key, bool):
                    raise TypeError(f"save: key {key!r} of {_at(path)} is neither str nor int")
            return {
                "dict": [[key, self.pack(value, _join(path, key))] for key, value in obj.items()]
            }
        if type(obj) in (list, tuple):
            items = [self.pack(value, _join(path, i)) for i, value in enumerate(obj)]
            return {type(obj).__name__: items}
        raise TypeError(
            f"save: {_at(path)} is a {type(obj).__name__}; a checkpoint holds tensors, numbers, "
            "strings, None, dicts, lists and tuples. Of a module, save its state_dict()"
        )

    def _whole(self, tensor: _C.FabricTensor) -> Tensor:
        """All values on the CPU: the file says nothing of the mesh."""
        key = tuple(leaf.data_ptr() for leaf in tensor._leaves())
        if key not in self._wholes:
            whole = tensor.detach().full_tensor().to("cpu")
            if tensor.requires_grad and tensor.is_leaf:
                whole = whole.clone().requires_grad_()
            self._wholes[key] = (tensor, whole)
        return self._wholes[key][1]

    def _tensor(self, tensor: Tensor, path: str) -> dict[str, Any]:
        # A tensor that appears twice (tied weights) is stored once.
        key = (
            tensor.data_ptr(), str(tensor.device), tensor.dtype,
            tuple(tensor.shape), tuple(tensor.stride()),
        )  # fmt: skip
        name = self._names.get(key)
        if name is None or tensor.numel() == 0:
            name = path
            while name in self.tensors or name == "__metadata__":
                name += "'"
            self._names[key] = name
            self.tensors[name] = tensor
        entry: dict[str, Any] = {"tensor": name}
        device = str(tensor.device)
        if device not in _HOME:
            entry["device"] = device
        if tensor.requires_grad and tensor.is_leaf:
            entry["requires_grad"] = True
        return entry


def _unpacked(file: BinaryIO, where: str, map_location: Any) -> Any:
    tensors, metadata = safetensors_file.read(file, where)
    if _STRUCTURE not in metadata:
        if map_location is None:
            return tensors
        return {name: tensor.to(map_location) for name, tensor in tensors.items()}
    try:
        return _Unpacker(tensors, map_location).unpack(json.loads(metadata[_STRUCTURE]))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{where}: not a checkpoint: bad structure ({error!r})") from error


class _Unpacker:
    """Puts tensors back into the structure that `_Packer` took them from."""

    def __init__(self, tensors: dict[str, Tensor], map_location: Any) -> None:
        self._tensors = tensors
        self._map_location = map_location
        self._placed: dict[tuple[str, str], Tensor] = {}

    def unpack(self, value: Any) -> Any:
        """The object for one JSON value."""
        if not isinstance(value, dict):
            return value
        if "tensor" in value:
            return self._tensor(value)
        ((kind, content),) = value.items()
        if kind == "dict":
            return {key: self.unpack(item) for key, item in content}
        items = [self.unpack(item) for item in content]
        return {"list": list, "tuple": tuple}[kind](items)

    def _tensor(self, entry: dict[str, Any]) -> Tensor:
        name, device = entry["tensor"], entry.get("device", _HOME[0])
        key = (name, device)
        if key not in self._placed:
            tensor = self._tensors[name]
            if self._map_location is not None:
                tensor = tensor.to(self._map_location)
            elif device not in _HOME:
                tensor = _moved(tensor, name, device)
            if entry.get("requires_grad"):
                tensor.requires_grad = True
            self._placed[key] = tensor
        return self._placed[key]


def _moved(tensor: Tensor, name: str, device: str) -> Tensor:
    kind, _, index = device.partition(":")
    present = _C.device_count(kind)
    if int(index) >= present:
        raise RuntimeError(
            f"load: tensor '{name}' was saved from {device}, and this process has {present} "
            f"{kind} device(s); give map_location='cpu' to load it elsewhere"
        )
    return tensor.to(device)


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _at(path: str) -> str:
    return f"'{path}'" if path else "the object"
