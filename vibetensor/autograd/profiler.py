"""`torch.autograd.profiler`: what of it stands beside `torch.profiler`."""

from vibetensor.profiler import emit_nvtx, record_function

__all__ = ["emit_nvtx", "record_function"]
