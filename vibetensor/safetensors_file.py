"""The safetensors format: an 8-byte length, a JSON header, then the bytes of every tensor.

Tensors are written and read one by one straight from and to their memory, so neither direction
needs a second copy of a whole checkpoint. The layout is https://huggingface.co/docs/safetensors,
which other programs read.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

from vibetensor import _C

Tensor = _C.Tensor

_CODES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int32": "I32",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
}
_DTYPES = {code: getattr(_C, name) for name, code in _CODES.items()}
_CODE_OF = {dtype: code for code, dtype in _DTYPES.items()}
_MAX_HEADER = 100_000_000  # bytes; the limit of the format


class CheckpointError(RuntimeError):
    """A file that is not a checkpoint, or not a whole one."""


def write(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors by name, and text by name, from the current position of the file."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    position = 0
    # Wide types first, so that every tensor starts at a multiple of its element.
    order = sorted(tensors, key=lambda name: -tensors[name].element_size())
    for name in order:
        tensor = tensors[name]
        end = position + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _CODE_OF[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in order:
        # The loop holds `dense` while its bytes are written.
        dense = tensors[name].detach().to("cpu").contiguous()
        file.write(_memory(dense))


def read(file: BinaryIO, where: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors (on the CPU) and the metadata of a file; `where` names it in errors.

    Raises:
        CheckpointError: the file is cut short, or is something else.
    """
    header, data_size = _header(file, where)
    metadata = header.pop("__metadata__", {})
    entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    out: dict[str, Tensor] = {}
    position = 0
    for name, entry in entries:
        start, end = entry["data_offsets"]
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise CheckpointError(
                f"{where}: tensor '{name}' has the type {entry['dtype']}, which is not supported"
            )
        tensor = _C.ops.empty(entry["shape"], dtype=dtype)
        size = tensor.numel() * tensor.element_size()
        if start != position or end - start != size:
            raise CheckpointError(
                f"{where}: tensor '{name}' lies at bytes {start} to {end}; expected {position} to "
                f"{position + size} from its shape {entry['shape']}. The file is damaged"
            )
        position = end
        if size and file.readinto(_memory(tensor)) != size:  # type: ignore[attr-defined]
            raise CheckpointError(_cut_short(where, data_size, position))
        out[name] = tensor
    return out, metadata


def _header(file: BinaryIO, where: str) -> tuple[dict[str, Any], int]:
    """The checked header, and how many bytes of data follow it."""
    start = file.tell()
    total = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    first = file.read(8)
    if len(first) < 8:
        raise CheckpointError(f"{where}: not a checkpoint: {total} bytes, too short for any")
    length = int.from_bytes(first, "little")
    if length > _MAX_HEADER or file.read(1) != b"{":
        raise CheckpointError(
            f"{where}: not a checkpoint: it does not start like a safetensors file"
        )
    if total < 8 + length:
        raise CheckpointError(_cut_short(where, total, 8 + length))
    try:
        header = json.loads(b"{" + file.read(length - 1))
        ends = [_checked(name, entry) for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{where}: not a checkpoint: bad header ({error})") from None
    data_size = total - 8 - length
    if max(ends, default=0) > data_size:
        raise CheckpointError(_cut_short(where, data_size, max(ends)))
    return header, data_size


def _checked(name: str, entry: dict[str, Any]) -> int:
    """Where the data of an entry ends; ValueError if the entry is not well formed."""
    start, end = entry["data_offsets"]
    sizes = [start, end, *entry["shape"]]
    if any(not isinstance(size, int) or size < 0 for size in sizes) or math.prod(
        entry["shape"]
    ) > max(0, end - start):
        raise ValueError(f"entry '{name}' has shape {entry['shape']} at bytes {start} to {end}")
    return int(end)


def _cut_short(where: str, found: int, wanted: int) -> str:
    return (
        f"{where}: the file is cut short: {found} of at least {wanted} bytes are there. It was "
        "probably not written to its end; use an older checkpoint"
    )


def _memory(tensor: Tensor) -> memoryview:
    """The bytes of a dense CPU tensor, which must outlive the view."""
    size = tensor.numel() * tensor.element_size()
    if size == 0:
        return memoryview(b"")
    return memoryview((ctypes.c_ubyte * size).from_address(tensor.data_ptr())).cast("B")
