"""Command line of the generator: writes every generated file into a folder, or lists what it would write."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from . import (
    emit_autocast,
    emit_autograd,
    emit_docs,
    emit_kernels,
    emit_ops,
    emit_python,
    emit_sharding,
    emit_stub,
)
from .table import Table, load

Emit = Callable[[Table], str]


def files() -> dict[str, Emit]:
    """Path below the output folder -> what writes it. The first folder names the floor it is compiled on."""
    cpu, cuda = "vt::cpu::VT_ISA", "vt::cuda"
    result: dict[str, Emit] = {
        "ops/ops.h": emit_ops.ops_h,
        "ops/raw_pointwise.cpp": emit_ops.raw_pointwise_cpp,
        "kernels/table.h": emit_kernels.table_h,
        "kernels/structured_cpu.h": lambda t: emit_kernels.structured_h(t, cpu, "the CPU"),
        "kernels/structured_cuda.h": lambda t: emit_kernels.structured_h(t, cuda, "CUDA"),
        "kernels/simd/table.cpp": lambda t: emit_kernels.table_cpp(
            t, cpu, "kernels/structured_cpu.h"
        ),
        "kernels/cuda/table.cpp": lambda t: emit_kernels.table_cpp(
            t, cuda, "kernels/structured_cuda.h"
        ),
        "fuse/functors.cpp": emit_kernels.functors_cpp,
        "fuse/structured.cpp": emit_kernels.recorded_cpp,
        "python/generated.h": emit_python.generated_h,
        "python/index.cpp": emit_python.index_cpp,
        "sharding/ops.h": emit_sharding.ops_h,
        "autograd/autocast_ops.h": emit_autocast.ops_h,
        "autograd/autocast_ops.cpp": emit_autocast.ops_cpp,
        "sharding/autocast_ops.h": emit_autocast.fabric_ops_h,
        "sharding/autocast_ops.cpp": emit_autocast.fabric_ops_cpp,
        "python/fabric_slots.cpp": emit_sharding.slots_cpp,
    }
    for i in range(emit_kernels.SHARDS):
        result[f"kernels/simd/pointwise_{i}.cpp"] = lambda t, i=i: emit_kernels.pointwise_shard(
            t, i, cpu, "kernels/cpu/simd/pointwise.h"
        )
        result[f"kernels/cuda/pointwise_{i}.cu"] = lambda t, i=i: emit_kernels.pointwise_shard(
            t, i, cuda, "kernels/cuda/pointwise.h"
        )
    for i in range(emit_autograd.SHARDS):
        result[f"autograd/functions_{i}.cpp"] = lambda t, i=i: emit_autograd.functions_cpp(t, i)
    for i in range(emit_python.SHARDS):
        result[f"python/methods_{i}.cpp"] = lambda t, i=i: emit_python.methods_cpp(t, i)
    for i in range(emit_sharding.SHARDS):
        result[f"sharding/functions_{i}.cpp"] = lambda t, i=i: emit_sharding.functions_cpp(t, i)
    result["docs/operators.md"] = emit_docs.operators_md
    result["_C.pyi"] = lambda t: emit_stub.stub(
        t, (Path(__file__).parent / "_C.pyi.in").read_text()
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="codegen", description=__doc__)
    parser.add_argument("--table", type=Path, default=Path(__file__).parent.parent / "table")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--list", action="store_true", help="print the files and stop")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(files()))
        return
    table = load(arguments.table)
    for path, emit in files().items():
        target = arguments.out / path
        text = emit(table)
        if target.exists() and target.read_text() == text:
            continue  # keep the time stamp: nothing that includes it needs to be compiled again
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


main()
