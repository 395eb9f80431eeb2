"""torch.backends: settings of the libraries behind CUDA operators."""

from __future__ import annotations

import pytest

import vibetensor.torch as torch


def test_tf32_is_off_until_asked_for() -> None:
    assert torch.backends.cuda.matmul.allow_tf32 is False
    assert torch.get_float32_matmul_precision() == "highest"
    try:
        torch.set_float32_matmul_precision("high")
        assert torch.backends.cuda.matmul.allow_tf32 is True
        torch.backends.cuda.matmul.allow_tf32 = False
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_an_unknown_precision_is_an_error() -> None:
    with pytest.raises(ValueError, match="'highest', 'high' or 'medium'"):
        torch.set_float32_matmul_precision("low")


def test_cudnn_is_deterministic_unless_told_otherwise() -> None:
    assert torch.backends.cudnn.deterministic is True
    try:
        torch.backends.cudnn.deterministic = False
        assert torch.backends.cudnn.deterministic is False
    finally:
        torch.backends.cudnn.deterministic = True
