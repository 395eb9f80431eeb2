"""Training on all devices of a mesh at once, from one Python thread."""

from vibetensor.parallel.checkpoint import CheckpointError, CheckpointFolder
from vibetensor.parallel.replicas import DataParallel
from vibetensor.parallel.run import FitResult
from vibetensor.parallel.step import StepMetrics
from vibetensor.parallel.trainer import Trainer

__all__ = [
    "CheckpointError",
    "CheckpointFolder",
    "DataParallel",
    "FitResult",
    "StepMetrics",
    "Trainer",
]
