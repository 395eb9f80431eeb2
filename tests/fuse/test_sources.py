"""Generated sources compile for a GPU, on any machine that has NVRTC; every functor is tried."""

from __future__ import annotations

import pytest

import vibetensor.torch as torch
from vibetensor import _C, fuse

needs_nvrtc = pytest.mark.skipif(
    _C.fuse_unavailable_reason() != "", reason="NVRTC is not installed: nvidia-cuda-nvrtc"
)

UNARY = "neg abs sign square floor ceil round trunc exp expm1 log log2 log1p sqrt rsqrt reciprocal"
UNARY += " tanh erf sigmoid relu sin cos logical_not isnan isinf isfinite"
BINARY = "add sub mul floor_divide remainder pow maximum minimum eq ne lt le gt ge"
BINARY += " logical_and logical_or true_divide"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def sources_of(dtype: torch.dtype) -> list[str]:
    x = torch.arange(1, 65).reshape(8, 8).to(dtype)
    column, row = x[:, :1], x[1]
    kept = []
    with fuse.recording():
        for name in UNARY.split():
            try:
                kept.append(getattr(torch, name)(x).to(torch.float32))
            except RuntimeError:
                continue  # not for this type
        for name in BINARY.split():
            try:
                kept.append(getattr(torch, name)(x + column, row).to(torch.float16))
                kept.append(getattr(torch, name)(x, 3))
            except (RuntimeError, TypeError):
                continue
        kept.append(torch.where(x > column, x, column) + torch.ones_like(x))
        kept.append(x.masked_fill(x > 3, 2).clamp(1, 5))
        kept.append(x.t() + x.t())
    return _C.fuse_sources()


@needs_nvrtc
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8])
def test_sources_compile(dtype: torch.dtype) -> None:
    sources = sources_of(dtype)
    assert sources
    for source in sources:
        assert _C.fuse_compile(source, "sm_90")[:4] == b"\x7fELF"


@needs_nvrtc
def test_compiled_kernels_are_kept_on_disk() -> None:
    (source, *_) = sources_of(torch.float32)
    before = _stats()
    first = _C.fuse_compile(source, "sm_90")
    assert _C.fuse_compile(source, "sm_90") == first
    compiled, from_disk = _stats()
    assert (compiled - before[0], from_disk - before[1]) == (1, 1)


@needs_nvrtc
def test_a_source_that_does_not_compile_is_shown_with_the_reason() -> None:
    with pytest.raises(RuntimeError, match=r"sm_90[\s\S]*nonsense"):
        _C.fuse_compile("nonsense;", "sm_90")


def _stats() -> tuple[int, int]:
    with fuse.recording() as made:
        pass
    assert made.report is not None
    return made.report.compiled, made.report.from_disk


@needs_nvrtc
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(7, 33), (66, 1000), (64, 4096), (64, 16384)])
def test_sources_of_rows_compile(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    x, w = torch.randn(shape).to(dtype), torch.randn(shape[1]).to(dtype)
    with fuse.recording():
        centred = x - x.mean(-1, keepdim=True)
        spread = (centred * centred).mean(-1, keepdim=True)
        kept = centred / torch.sqrt(spread + 1e-5) * w + x.amax(-1, keepdim=True)
    (source,) = _C.fuse_sources()
    assert kept.shape == shape
    assert _C.fuse_compile(source, "sm_90")[:4] == b"\x7fELF"
