"""A forked child computes: the threads of its parent are not there, and nothing waits for them."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, sys, warnings
import vibetensor
import vibetensor.torch as torch

warnings.simplefilter("ignore")
vibetensor.set_cpu_devices(2)
torch.set_num_threads(4)

def work():
    x = torch.ones(300_000, requires_grad=True)
    y = (x.exp() * 2).to("cpu:1").sum().to("cpu:0")
    y.backward()
    return float(x.grad[0]), float((torch.ones(200, 200) @ torch.ones(200, 200)).sum())

here = work()
child = os.fork()
if child == 0:
    os._exit(0 if work() == here else 1)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_computes() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], timeout=60)
    assert ran.returncode == 0
