"""Training steps on fabric tensors: `python benchmarks/fabric_training.py [--device cuda]`.

One MLP in bfloat16 (float32 on CPU devices), forward, backward and AdamW: on one device, with the
batch cut over all devices (its size is that of one device times the ranks), and with the layers cut
(the batch of one device on all). Prints one JSON line a way with the milliseconds of a step, the
median over steps, and the floating-point operations a second of all devices.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import vibetensor.torch as torch
from vibetensor import fabric

nn, F = torch.nn, torch.nn.functional


class MLP(nn.Module):
    """Two layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.down(F.gelu(self.up(x), approximate="tanh"))
        return y


def main() -> None:
    """Prints the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--width", type=int)
    parser.add_argument("--batch", type=int, help="rows of one device")
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    cuda = arguments.device == "cuda"
    width = arguments.width or (4096 if cuda else 256)
    batch = arguments.batch or (8192 if cuda else 512)
    dtype = torch.bfloat16 if cuda else torch.float32
    if not cuda:
        fabric.set_cpu_devices(2)
    every = fabric.mesh()
    ways: list[tuple[str, fabric.Mesh, dict[str, str], fabric.Placement, int]] = [
        ("one device", fabric.mesh([every[0]]), {}, fabric.Replicate(), batch),
        ("batch cut", every, {}, fabric.Shard(0), batch * len(every)),
        ("layers cut", every, {"up": "column", "down": "row"}, fabric.Replicate(), batch),
    ]
    for name, mesh, plan, placement, rows in ways:
        torch.manual_seed(0)
        model = fabric.distribute_module(MLP(width, 4 * width).to(dtype), mesh, dict(plan))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        x = fabric.distribute(torch.randn(rows, width).to(dtype), mesh, placement)
        times, host = [], []
        for _ in range(arguments.steps + 3):
            start = time.perf_counter()
            optimizer.zero_grad()
            loss = model(x).float().square().mean()
            loss.backward()
            optimizer.step()
            host.append(time.perf_counter() - start)
            value = loss.item()
            times.append(time.perf_counter() - start)
        step = statistics.median(times[3:])
        row = {
            "way": name,
            "devices": len(mesh),
            "rows": rows,
            "step_ms": round(step * 1e3, 3),
            "host_ms": round(statistics.median(host[3:]) * 1e3, 3),
            "tflops": round(3 * 2 * rows * width * 4 * width * 2 / step / 1e12, 2),
            "loss": value,
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
