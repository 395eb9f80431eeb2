"""`torch.backends`: how the libraries behind CUDA operators compute."""

from __future__ import annotations

import warnings

from vibetensor import _C

__all__ = ["cuda", "cudnn", "get_float32_matmul_precision", "set_float32_matmul_precision"]


_FLOAT32 = "bf16x6"  # what products of float32 are until something else is asked for


class _Settings:
    """Names that can be set are those that mean something: others would be without effect."""

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            known = [each for each in dir(type(self)) if not each.startswith("_")]
            raise AttributeError(
                f"torch.backends: nothing here is called {name!r}; there are {', '.join(known)}"
            )
        super().__setattr__(name, value)


class _Matmul(_Settings):
    """`torch.backends.cuda.matmul`."""

    @property
    def fp32_precision(self) -> str:
        """How products of float32 matrices are computed on a GPU.

        "bf16x6", the default: on tensor cores. Each number is split without error into three
        bfloat16 numbers, so all of its 24 bits count; six of the nine products of pieces are
        added in float32, every 32 terms to a sum of their own and these sums with rounding to
        nearest. What is left out is at most 2^-24 of a product, as much as rounding it to float32
        may cost. Infinities, NaN and results beyond 2^95 are computed as "ieee" does, and so are
        products too small to gain, with lines that are not made of whole, aligned 16 bytes, or on
        a GPU that is not of compute capability 9.0.
        "ieee": every product and sum is a float32 fused multiply-add.
        "tf32": numbers are rounded to 10 bits of fraction first.

        Results are the same in every run with each of them, and differ between them.

        Raises:
            ValueError: set to any other text.
        """
        return _C.get_float32_products()

    @fp32_precision.setter
    def fp32_precision(self, precision: str) -> None:
        _C.set_float32_products(precision)

    @property
    def allow_tf32(self) -> bool:
        """May float32 products round their inputs to TF32 (10 bits of fraction)? Off by default.

        The same as `fp32_precision == "tf32"`; False takes that back and leaves others alone.
        """
        return _C.get_float32_products() == "tf32"

    @allow_tf32.setter
    def allow_tf32(self, allow: bool) -> None:
        if allow:
            _C.set_float32_products("tf32")
        elif self.allow_tf32:
            _C.set_float32_products(_FLOAT32)

    @property
    def gelu_products(self) -> str:
        """Whose kernels multiply 16-bit matrices and apply GELU (tanh form) or its gradient.

        "own", the default where they were built (with CUTLASS's headers): kernels made for this,
        which also add up the columns of a gradient. Products with too few tiles to fill the GPU,
        with lines that are not made of whole, aligned 16 bytes, or on a GPU that is not of compute
        capability 9.0 go to cuBLASLt. What goes where depends on shapes and addresses only.
        So are large bfloat16 products with a bias, and with a residual sum that the step compiler
        puts into them.
        "cublaslt": always cuBLASLt's.

        Results are the same in every run with each of them, and may differ between them in their
        last bits. GELU takes the hardware's tanh, good to 11 bits, in both.

        Raises:
            RuntimeError: set to "own" in a build that has no such kernels.
            ValueError: set to any other text.
        """
        return "own" if _C.get_own_gelu_products() else "cublaslt"

    @gelu_products.setter
    def gelu_products(self, whose: str) -> None:
        if whose not in ("own", "cublaslt"):
            raise ValueError(f"gelu_products: expected 'own' or 'cublaslt', got {whose!r}")
        _C.set_own_gelu_products(whose == "own")


class _Cuda(_Settings):
    """`torch.backends.cuda`."""

    matmul = _Matmul()

    @staticmethod
    def is_built() -> bool:
        """Whether this build has its CUDA half; `torch.cuda.is_available()` asks for a GPU."""
        return bool(_C.build_info()["cuda_version"])


class _Cudnn(_Settings):
    """`torch.backends.cudnn`."""

    @staticmethod
    def is_available() -> bool:
        """Whether there is a GPU, and cuDNN is found."""
        found = {name: path for name, path, _ in _C.find_vendor_libraries()}
        return _C.device_count("cuda") > 0 and found["cuDNN"] is not None

    @property
    def benchmark(self) -> bool:
        """May cuDNN's algorithms be timed and the fastest one taken? No: its heuristic chooses, so
        that runs give the same bits. Setting it to True changes nothing and says so.
        """
        return False

    @benchmark.setter
    def benchmark(self, benchmark: bool) -> None:
        if benchmark:
            warnings.warn(
                "torch.backends.cudnn.benchmark: algorithms are not timed here, cuDNN's heuristic "
                "chooses them",
                RuntimeWarning,
                stacklevel=3,
            )

    @property
    def enabled(self) -> bool:
        """May convolutions on a GPU use cuDNN? On by default. Off, and for float64, they are
        products of matrices with columns of what each position of the kernel sees.
        """
        return _C.get_cudnn_enabled()

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        _C.set_cudnn_enabled(bool(enabled))

    @property
    def allow_tf32(self) -> bool:
        """May float32 convolutions round their inputs to TF32 (10 bits of fraction)? Off by
        default, unlike in PyTorch. They do, too, where `backends.cuda.matmul.allow_tf32` is set.
        """
        return _C.get_cudnn_tf32()

    @allow_tf32.setter
    def allow_tf32(self, allow: bool) -> None:
        _C.set_cudnn_tf32(bool(allow))

    @property
    def deterministic(self) -> bool:
        """Must cuDNN give the same bits in every run? On by default, unlike in PyTorch: off, the
        backward of attention over more than 128 keys, where cuDNN computes it, and of convolutions
        may add up in any order.
        """
        return _C.get_cudnn_deterministic()

    @deterministic.setter
    def deterministic(self, deterministic: bool) -> None:
        _C.set_cudnn_deterministic(bool(deterministic))


cuda = _Cuda()
cudnn = _Cudnn()


def set_float32_matmul_precision(precision: str) -> None:
    """How float32 products on a GPU are done: "highest" with all 24 bits of each number, "high" or
    "medium" in TF32. `backends.cuda.matmul.fp32_precision` says what that is, and has more to
    choose from.

    Raises:
        ValueError: any other text.
    """
    if precision not in ("highest", "high", "medium"):
        raise ValueError(
            "set_float32_matmul_precision: expected 'highest', 'high' or 'medium', got "
            f"{precision!r}"
        )
    cuda.matmul.allow_tf32 = precision != "highest"


def get_float32_matmul_precision() -> str:
    """ "highest", or "high" where TF32 is allowed."""
    return "high" if cuda.matmul.allow_tf32 else "highest"
