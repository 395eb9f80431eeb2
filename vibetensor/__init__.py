"""vibetensor: a tensor and autograd runtime that trains on all GPUs of a machine from one process.

`import vibetensor.torch as torch` gives the face that reads like PyTorch; `vibetensor.fabric` and
`vibetensor.parallel` drive several devices.
"""

from vibetensor import _C, _libraries, tuning
from vibetensor._C import (
    FabricError,
    FabricTimeoutError,
    OutOfMemoryError,
    __version__,
    set_cpu_devices,
)
from vibetensor.captured import CapturedStep, capture
from vibetensor.replay import StaleGraphError, on_replay
from vibetensor.tuning import products

_C.set_library_search_paths(_libraries.folders())
tuning.load()
products.load()

__all__ = [
    "CapturedStep",
    "FabricError",
    "FabricTimeoutError",
    "OutOfMemoryError",
    "StaleGraphError",
    "__version__",
    "capture",
    "on_replay",
    "set_cpu_devices",
]
