"""What is timed: statements that mean the same to PyTorch and to vibetensor, with ratios aimed at.

Tensors have one element (or the few that a layer needs), so that the time is that of the call. On a
GPU it is the host's time: of the call that queues the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """A statement to repeat. `setup` runs once; both see the modules `torch`, `nn` and `F`, and
    the name of the device as `device`.

    `per` divides the time, for statements that do several equal things; `goal` is the ratio of our
    time to PyTorch's that is aimed at on a CPU (on a GPU it is 0.5 for every case).
    """

    name: str
    setup: str
    statement: str
    goal: float
    per: int = 1


CHAIN = 32  # nodes of the backward case

MLP = """
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
model.to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
x, y = torch.randn(16, 64, device=device), torch.randn(16, 64, device=device)
def step():
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
"""

ONE = "a = torch.ones(1, device=device); b = torch.ones(1, device=device)"
GRAD = ONE + "; a.requires_grad_()"
GRID = "a = torch.ones(8, 8, device=device)"

CASES = [
    Case("a + b", ONE, "a + b", 0.35),
    Case("a + b, recorded", GRAD, "a + b", 0.30),
    Case("a + 1.0", ONE, "a + 1.0", 0.25),
    Case("a.add_(b)", ONE, "a.add_(b)", 0.40),
    Case("torch.add(a, b)", ONE, "torch.add(a, b)", 0.40),
    Case("a.sum()", ONE, "a.sum()", 0.50),
    Case(
        "backward, per node",
        f"""
a = torch.ones(1, device=device, requires_grad=True)
def chain():
    x = a
    for _ in range({CHAIN}):
        x = x.neg()
    return x
y = chain()
""",
        "y.backward(retain_graph=True)",
        0.28,
        per=CHAIN,
    ),
    Case("view", GRID, "a.view(64)", 0.40),
    Case("reshape", GRID, "a.reshape(4, 16)", 0.40),
    Case("slice", GRID, "a[1:3]", 0.40),
    Case("select", GRID, "a[1]", 0.40),
    Case("slice of two dims", GRID, "a[1:3, 2:4]", 0.40),
    Case("transpose", GRID, "a.t()", 0.40),
    Case(
        "F.linear",
        "x, w, b = (torch.ones(*n, device=device) for n in ((1, 4), (4, 4), (4,)))",
        "F.linear(x, w, b)",
        0.40,
    ),
    Case(
        "nn.Linear(4, 4)",
        "m = nn.Linear(4, 4).to(device); x = torch.ones(1, 4, device=device)",
        "m(x)",
        0.35,
    ),
    Case("MLP step with AdamW", MLP, "step()", 0.35),
]


def prepare(case: Case, torch: Any, device: str) -> Any:
    """A function of n that runs the statement n times, compiled for one of the two modules."""
    namespace: dict[str, Any] = {
        "torch": torch,
        "nn": torch.nn,
        "F": torch.nn.functional,
        "device": device,
    }
    exec(case.setup, namespace)
    body = f"def run(n):\n    for _ in range(n):\n        {case.statement}\n"
    exec(body, namespace)
    return namespace["run"]
