"""Random programs of operators and changes of placement, against the same program on one device."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

import vibetensor
import vibetensor.torch as torch
from vibetensor import fabric

F = torch.nn.functional

# Programs over square matrices of one size, so that every step fits every value.
UNARY = {
    "tanh": torch.tanh,
    "transpose": lambda x: x.t(),
    "softmax": lambda x: F.softmax(x, dim=1),
    "norm": lambda x: F.layer_norm(x, (x.shape[1],)),
    "less mean": lambda x: x - x.mean(0, keepdim=True),
    "scaled": lambda x: 0.5 * x + 1,
    "regrouped": lambda x: x.reshape(-1).view(x.shape[0], x.shape[1]),
    "heads": lambda x: x.view(x.shape[0], 2, -1).transpose(0, 1).flatten(1).view(*x.shape),
    "halves": lambda x: torch.cat([x[1:], x[:1]]),
    "cut": lambda x: x.narrow(1, 1, x.shape[1] - 1).sum(1, keepdim=True) * x,
}
BINARY = {
    "add": lambda x, y: x + y,
    "mul": lambda x, y: x * y,
    "matmul": lambda x, y: x @ y,
    "linear": lambda x, y: F.linear(x, y, y[0]),
    "where": lambda x, y: torch.where(x > y, x, y),
    "stacked": lambda x, y: torch.stack([x, y]).mean(0),
}
placements = st.sampled_from(
    [None, fabric.Replicate(), fabric.Shard(0), fabric.Shard(1), fabric.Partial()]
)
step = st.one_of(
    st.tuples(st.sampled_from(sorted(UNARY)), st.integers(0, 9), st.none(), placements),
    st.tuples(st.sampled_from(sorted(BINARY)), st.integers(0, 9), st.integers(0, 9), placements),
)


def run(program, values, moves):
    values = list(values)
    for name, first, second, placement in program:
        x = values[first % len(values)]
        result = UNARY[name](x) if second is None else BINARY[name](x, values[second % len(values)])
        if moves and placement is not None:
            is_sum = placement.is_partial() and result.placement.is_partial()
            result = result if is_sum else result.reshard(placement)
        values.append(result)
    return values


@given(
    program=st.lists(step, min_size=1, max_size=8),
    start=st.tuples(placements, placements),
    size=st.sampled_from([4, 6, 8, 2]),
    ranks=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
@settings(max_examples=250, deadline=None)
def test_program(program, start, size, ranks, seed):
    vibetensor.set_cpu_devices(4)
    mesh = fabric.mesh([f"cpu:{i}" for i in range(ranks)])
    torch.manual_seed(seed)
    inputs = [torch.randn(size, size, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    ours = [
        fabric.distribute(x, mesh, p or fabric.Replicate())
        for x, p in zip(inputs, start, strict=True)
    ]
    values, expected = run(program, ours, moves=True), run(program, inputs, moves=False)
    for mine, theirs in zip(values, expected, strict=True):
        assert torch.allclose(mine.full_tensor(), theirs, rtol=1e-9, atol=1e-9)
    sum(v.sum() for v in expected).backward()
    sum(v.sum() for v in values).backward()
    for mine, theirs in zip(ours, inputs, strict=True):
        assert torch.allclose(mine.grad.full_tensor(), theirs.grad, rtol=1e-7, atol=1e-7)
