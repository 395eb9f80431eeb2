"""vibetensor: a tensor and autograd runtime that trains on all GPUs of a machine from one process.

`import vibetensor.torch as torch` gives the face that reads like PyTorch; `vibetensor.fabric` and
`vibetensor.parallel` drive several devices.
"""

from vibetensor._C import (
    FabricError,
    FabricTimeoutError,
    OutOfMemoryError,
    __version__,
    set_cpu_devices,
)

__all__ = [
    "FabricError",
    "FabricTimeoutError",
    "OutOfMemoryError",
    "__version__",
    "set_cpu_devices",
]
