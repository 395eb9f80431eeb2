"""Gradients from Python: passes, recording modes, and functions with a backward of their own."""

from vibetensor._C import is_grad_enabled
from vibetensor.autograd import profiler
from vibetensor.autograd.function import Function
from vibetensor.autograd.grad_mode import enable_grad, inference_mode, no_grad, set_grad_enabled
from vibetensor.autograd.passes import backward, grad

__all__ = [
    "Function",
    "backward",
    "enable_grad",
    "grad",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "profiler",
    "set_grad_enabled",
]
