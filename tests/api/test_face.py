"""The face: names import as in PyTorch, modes switch recording, and importing is quick."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest
import torch as pt
import vibetensor.torch.nn as nn
import vibetensor.torch.nn.functional as F

import vibetensor
import vibetensor.torch as vt
from vibetensor import _C


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    "name",
    [
        "autograd",
        "cuda",
        "cuda.memory",
        "cuda.nvtx",
        "nn",
        "nn.functional",
        "nn.init",
        "nn.parameter",
        "nn.utils",
        "optim",
        "optim.lr_scheduler",
        "profiler",
        "utils",
        "utils.data",
    ],
)
def test_submodules_import_by_their_name(name: str) -> None:
    module = importlib.import_module(f"vibetensor.torch.{name}")
    found = vt
    for part in name.split("."):
        found = getattr(found, part)
    assert found is module


def test_modules_are_the_same_objects() -> None:
    assert nn is vt.nn and F is vt.nn.functional and vt.__version__ == vibetensor.__version__


def test_every_operator_of_the_table_is_exposed() -> None:
    for place, target in (("torch", vt), ("nn.functional", F)):
        for name in _C.exposed[place]:
            assert getattr(target, name) is getattr(_C.ops, name)


def test_dtypes_have_their_names() -> None:
    for name in ("float32", "float", "half", "long", "int", "bool", "bfloat16", "double", "uint8"):
        assert str(getattr(vt, name)) == str(getattr(pt, name))


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_finfo(name: str) -> None:
    ours, theirs = vt.finfo(getattr(vt, name)), pt.finfo(getattr(pt, name))
    for field in ("bits", "eps", "max", "min", "tiny", "smallest_normal"):
        assert getattr(ours, field) == getattr(theirs, field)
    with pytest.raises(TypeError):
        vt.finfo(vt.int32)


@pytest.mark.parametrize("name", ["uint8", "int8", "int32", "int64"])
def test_iinfo(name: str) -> None:
    ours, theirs = vt.iinfo(getattr(vt, name)), pt.iinfo(getattr(pt, name))
    assert (ours.bits, ours.min, ours.max) == (theirs.bits, theirs.min, theirs.max)
    with pytest.raises(TypeError):
        vt.iinfo(vt.float32)


def test_gradient_modes() -> None:
    x = vt.ones(2, requires_grad=True)
    assert vt.is_grad_enabled()
    with vt.no_grad():
        assert not vt.is_grad_enabled() and not (x * 2).requires_grad
        with vt.enable_grad():
            assert (x * 2).requires_grad
    mode = vt.no_grad()
    with mode, mode:
        assert not vt.is_grad_enabled()
    assert vt.is_grad_enabled()

    @vt.no_grad()
    def with_brackets() -> bool:
        return vt.is_grad_enabled()

    @vt.no_grad
    def without() -> bool:
        return vt.is_grad_enabled()

    assert not with_brackets() and not without() and vt.is_grad_enabled()
    with vt.inference_mode(), vt.set_grad_enabled(True):
        assert vt.is_grad_enabled()
    vt.set_grad_enabled(False)
    assert not vt.is_grad_enabled()
    vt.set_grad_enabled(True)
    with pytest.raises(ZeroDivisionError), vt.no_grad():
        1 / 0  # noqa: B018
    assert vt.is_grad_enabled()


def test_backward_and_grad() -> None:
    x = vt.tensor([2.0, 3.0], requires_grad=True)
    y = (x**3).sum()
    (first,) = vt.autograd.grad(y, x, create_graph=True)
    assert first.tolist() == [12.0, 27.0] and x.grad is None
    (second,) = vt.autograd.grad(first.sum(), [x])
    assert second.tolist() == [12.0, 18.0]
    vt.autograd.backward([x * 2, x.sum()], [vt.ones(2), None])
    assert x.grad.tolist() == [3.0, 3.0]
    unused = vt.ones(1, requires_grad=True)
    assert vt.autograd.grad((x * 1).sum(), [unused], allow_unused=True) == (None,)
    with pytest.raises(RuntimeError):
        vt.autograd.grad((x * 1).sum(), [unused])
    with pytest.raises(RuntimeError, match="2 tensors and 1 gradients"):
        vt.autograd.backward([x * 2, x * 3], [vt.ones(2)])


def test_seeds() -> None:
    vt.manual_seed(11)
    first = vt.rand(5).tolist()
    state = vt.get_rng_state()
    second = vt.rand(5).tolist()
    vt.set_rng_state(state)
    assert vt.rand(5).tolist() == second != first
    vt.manual_seed(11)
    assert vt.rand(5).tolist() == first and vt.initial_seed() == 11


def test_as_tensor() -> None:
    x = vt.ones(2)
    assert vt.as_tensor(x) is x and vt.as_tensor(x, dtype=vt.float64).dtype == vt.float64
    assert vt.as_tensor([1, 2]).dtype == vt.int64
    array = x.numpy()
    array[0] = 5
    assert vt.as_tensor(array).tolist() == [5.0, 1.0] and vt.is_tensor(x)


def test_without_a_gpu_cuda_answers() -> None:
    assert vt.cuda.is_available() == (vt.cuda.device_count() > 0)
    vt.cuda.manual_seed_all(1)
    with vt.cuda.device(None), vt.cuda.stream(None):
        pass
    with pytest.raises(ValueError, match="Expected a cuda device"):
        vt.cuda.set_device("cpu")


def test_import_is_light() -> None:
    code = (
        "import json, sys, time; start = time.perf_counter(); import vibetensor;"
        "took = time.perf_counter() - start; print(json.dumps([took, sorted(sys.modules)]))"
    )
    runs = [json.loads(run_python(code)) for _ in range(3)]
    heavy = {"torch", "matplotlib", "sklearn", "safetensors", "rich", "scipy"}
    assert not heavy & set(runs[0][1])
    assert min(took for took, _ in runs) <= 0.3


def test_the_face_imports_nothing_heavy() -> None:
    code = "import json, sys; import vibetensor.torch; print(json.dumps(sorted(sys.modules)))"
    assert not {"torch", "matplotlib", "sklearn", "rich"} & set(json.loads(run_python(code)))


def test_names_that_are_elsewhere_say_where() -> None:
    with pytest.raises(AttributeError, match=r"'compile'; instead there is .*capture"):
        _ = vt.compile
    with pytest.raises(AttributeError, match=r"no attribute 'no_such_name'$"):
        _ = vt.no_such_name
    assert not hasattr(vt, "distributed")


def test_results_have_names() -> None:
    x = vt.tensor([[3.0, 1.0], [2.0, 4.0]])
    for result in (x.max(1), vt.sort(x, descending=True), x.min(0), vt.topk(x, 1)):
        values, indices = result
        assert result.values is values and result.indices is indices and isinstance(result, tuple)
    assert x.max(1).indices.tolist() == [0, 1]
