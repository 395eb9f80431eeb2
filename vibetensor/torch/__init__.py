"""The face that reads like PyTorch: `import vibetensor.torch as torch`.

Operators come from the table by loop (`_C.exposed`); the rest is named here.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from vibetensor import _C, amp, autograd, cuda, nn, optim, profiler
from vibetensor._C import (
    FabricError,
    OutOfMemoryError,
    Size,
    Tensor,
    __version__,
    allclose,
    as_tensor,
    clear_autocast_cache,
    device,
    dtype,
    equal,
    from_dlpack,
    from_numpy,
    get_num_threads,
    is_autocast_cache_enabled,
    is_grad_enabled,
    isclose,
    set_autocast_cache_enabled,
    set_num_threads,
    tensor,
)
from vibetensor.amp import (
    autocast,
    get_autocast_dtype,
    is_autocast_enabled,
    set_autocast_dtype,
    set_autocast_enabled,
)
from vibetensor.autograd import enable_grad, inference_mode, no_grad, set_grad_enabled
from vibetensor.data import Generator
from vibetensor.io import load, save
from vibetensor.torch import backends, random, utils, version
from vibetensor.torch.backends import get_float32_matmul_precision, set_float32_matmul_precision
from vibetensor.torch.determinism import (
    are_deterministic_algorithms_enabled,
    use_deterministic_algorithms,
)
from vibetensor.torch.info import finfo, iinfo
from vibetensor.torch.random import (
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)

__all__ = [
    "FabricError",
    "Generator",
    "OutOfMemoryError",
    "Size",
    "Tensor",
    "__version__",
    "allclose",
    "amp",
    "are_deterministic_algorithms_enabled",
    "as_tensor",
    "autocast",
    "autograd",
    "backends",
    "bfloat16",
    "bool",
    "clear_autocast_cache",
    "cuda",
    "device",
    "double",
    "dtype",
    "e",
    "enable_grad",
    "equal",
    "finfo",
    "float",
    "float16",
    "float32",
    "float64",
    "from_dlpack",
    "from_numpy",
    "get_autocast_dtype",
    "get_default_dtype",
    "get_float32_matmul_precision",
    "get_num_threads",
    "get_rng_state",
    "half",
    "iinfo",
    "inf",
    "inference_mode",
    "initial_seed",
    "int",
    "int8",
    "int32",
    "int64",
    "is_autocast_cache_enabled",
    "is_autocast_enabled",
    "is_grad_enabled",
    "is_tensor",
    "isclose",
    "load",
    "long",
    "manual_seed",
    "nan",
    "nn",
    "no_grad",
    "numel",
    "optim",
    "pi",
    "profiler",
    "random",
    "save",
    "seed",
    "set_autocast_cache_enabled",
    "set_autocast_dtype",
    "set_autocast_enabled",
    "set_float32_matmul_precision",
    "set_grad_enabled",
    "set_num_threads",
    "set_rng_state",
    "tensor",
    "uint8",
    "use_deterministic_algorithms",
    "utils",
    "version",
]

# What people look for here, and where it is instead.
_ELSEWHERE = {
    "compile": "vibetensor.capture(step, fuse=True)",
    "distributed": "vibetensor.parallel and vibetensor.collectives: one process has all devices",
}


def __getattr__(name: str) -> Any:
    hint = f"; instead there is {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")


bool = _C.bool
uint8 = _C.uint8
int8 = _C.int8
int32 = int = _C.int32
int64 = long = _C.int64
float16 = half = _C.float16
bfloat16 = _C.bfloat16
float32 = float = _C.float32
float64 = double = _C.float64

inf, nan, pi, e = math.inf, math.nan, math.pi, math.e

# `import vibetensor.torch.nn.functional as F` finds the module that `torch.nn.functional` is.
sys.modules.update(
    {
        f"{__name__}.{name}": module
        for name, module in {
            "amp": amp,
            "autograd": autograd,
            "autograd.profiler": autograd.profiler,
            "cuda": cuda,
            "cuda.graphs": cuda.graphs,
            "cuda.memory": cuda.memory,
            "cuda.nvtx": cuda.nvtx,
            "cuda.profiler": cuda.profiler,
            "cuda.random": cuda.random,
            "cuda.streams": cuda.streams,
            "cuda.tunable": cuda.tunable,
            "nn": nn,
            "nn.functional": nn.functional,
            "nn.init": nn.init,
            "nn.parameter": nn.parameter,
            "nn.utils": nn.utils,
            "optim": optim,
            "optim.lr_scheduler": optim.lr_scheduler,
            "profiler": profiler,
            "utils.data": utils.data,
        }.items()
    }
)

# Every operator that the table places in `torch`.
globals().update({name: getattr(_C.ops, name) for name in _C.exposed["torch"]})


def is_tensor(obj: Any) -> Any:
    """Whether an object is a Tensor."""
    return isinstance(obj, Tensor)


def numel(input: Tensor) -> Any:
    """How many elements a tensor has."""
    return input.numel()


def get_default_dtype() -> dtype:
    """The dtype of tensors made from Python floats: float32, always."""
    return float32
