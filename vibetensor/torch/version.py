"""`torch.version`: of this project, and of the CUDA toolkit that it was built with."""

from __future__ import annotations

from vibetensor import _C

__all__ = ["__version__", "cuda", "hip"]

__version__ = _C.__version__
cuda: str | None = _C.build_info()["cuda_version"] or None
hip: str | None = None
