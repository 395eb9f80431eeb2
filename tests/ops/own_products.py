"""Whose kernels carry out products with GELU, a bias or a residual sum, while a test asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import vibetensor.torch as torch


@contextmanager
def products_of(whose: str) -> Iterator[None]:
    matmul = torch.backends.cuda.matmul
    before = matmul.gelu_products
    matmul.gelu_products = whose
    try:
        yield
    finally:
        matmul.gelu_products = before
