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


def test_float32_products_keep_all_bits_until_told_otherwise() -> None:
    matmul = torch.backends.cuda.matmul
    assert matmul.fp32_precision == "bf16x6"
    try:
        matmul.fp32_precision = "ieee"
        torch.set_float32_matmul_precision("highest")
        assert matmul.fp32_precision == "ieee"  # highest already
        torch.set_float32_matmul_precision("medium")
        assert matmul.fp32_precision == "tf32"
        torch.set_float32_matmul_precision("highest")
        assert matmul.fp32_precision == "bf16x6"
        with pytest.raises(ValueError, match="'ieee', 'bf16x6' or 'tf32'"):
            matmul.fp32_precision = "bf16"
    finally:
        matmul.fp32_precision = "bf16x6"


def test_an_unknown_precision_is_an_error() -> None:
    with pytest.raises(ValueError, match="'highest', 'high' or 'medium'"):
        torch.set_float32_matmul_precision("low")


def test_convolutions_may_use_cudnn_unless_told_otherwise() -> None:
    assert torch.backends.cudnn.enabled is True
    try:
        torch.backends.cudnn.enabled = False
        assert torch.backends.cudnn.enabled is False
    finally:
        torch.backends.cudnn.enabled = True


def test_results_have_the_same_bits_unless_told_otherwise() -> None:
    assert torch.are_deterministic_algorithms_enabled() is True
    try:
        torch.use_deterministic_algorithms(False, warn_only=True)
        assert torch.are_deterministic_algorithms_enabled() is False
        assert torch.backends.cudnn.deterministic is False
    finally:
        torch.use_deterministic_algorithms(True)
    assert torch.backends.cudnn.deterministic is True


def test_cudnn_is_deterministic_unless_told_otherwise() -> None:
    assert torch.backends.cudnn.deterministic is True
    try:
        torch.backends.cudnn.deterministic = False
        assert torch.backends.cudnn.deterministic is False
    finally:
        torch.backends.cudnn.deterministic = True


def test_settings_that_mean_nothing_here_are_errors_or_say_so() -> None:
    with pytest.raises(AttributeError, match="nothing here is called 'tf32'"):
        torch.backends.cudnn.tf32 = True
    with pytest.raises(AttributeError, match=r"there are .*allow_tf32"):
        torch.backends.cuda.matmul.allow_half = True
    with pytest.warns(RuntimeWarning, match="heuristic"):
        torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.benchmark = False
    assert torch.backends.cudnn.benchmark is False
    assert torch.backends.cuda.is_built() == (torch.version.cuda is not None)


def test_convolutions_have_a_tf32_of_their_own() -> None:
    assert torch.backends.cudnn.allow_tf32 is False
    torch.backends.cudnn.allow_tf32 = True
    try:
        assert torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = False


@pytest.mark.cuda
def test_convolutions_with_tf32_round_more() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(4, 64, 32, 32, device="cuda"), torch.randn(64, 64, 3, 3, device="cuda")
    exact = torch.nn.functional.conv2d(x.double(), w.double(), padding=1)

    def error() -> float:
        found = torch.nn.functional.conv2d(x, w, padding=1)
        return float((found.double() - exact).abs().max() / exact.abs().max())

    assert error() < 2e-6
    torch.backends.cudnn.allow_tf32 = True
    try:
        assert 1e-5 < error() < 1e-2
    finally:
        torch.backends.cudnn.allow_tf32 = False
