"""What docs/collectives.md tells a newcomer to type runs, and prints what it says."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

import vibetensor.torch as torch

PAGE = Path(__file__).parents[2] / "docs" / "collectives.md"


def test_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= 4
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
        promised = re.findall(r"^print\(.*\)  # (.*)$", block, re.M)
        assert capsys.readouterr().out.splitlines() == promised
    devices = names["mesh"].devices
    names["outs"] = [torch.empty(16, device=device) for device in devices]
    threads = [threading.Thread(target=names["rank_thread"], args=(rank,)) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (names["outs"][3].cpu().numpy() == 36).all()
