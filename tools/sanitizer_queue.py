"""A pytest plugin: processes take tests from one queue, until it is empty or time is up.

tools/sanitize.py starts them. Each collects the same list, and a counter in a locked file says
which test is next, so that no process waits for another.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
import zlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options that tools/sanitize.py passes on."""
    group = parser.getgroup("sanitize")
    group.addoption("--queue", type=Path, help="folder that the processes share")
    group.addoption("--queue-worker", default="0", help="name of this process's list of results")
    group.addoption("--queue-share", type=float, default=1.0, help="of each function's cases")
    group.addoption("--queue-salt", default="", help="another one picks other cases")
    group.addoption("--queue-until", type=float, default=math.inf, help="seconds of the epoch")


def pytest_configure(config: pytest.Config) -> None:
    """Takes part where a queue is named."""
    if config.getoption("--queue") is not None:
        config.pluginmanager.register(Queue(config), "queue")


class Queue:
    """This process's side of the queue."""

    def __init__(self, config: pytest.Config) -> None:
        self.folder: Path = config.getoption("--queue")
        self.share: float = config.getoption("--queue-share")
        self.salt: str = config.getoption("--queue-salt")
        self.until: float = config.getoption("--queue-until")
        worker = config.getoption("--queue-worker")
        self.results = (self.folder / f"results-{worker}.jsonl").open("a", encoding="utf-8")
        self.failed = False

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keeps the share of each function's cases that chance picks, the same in every process.

        The order is: a case of every function, then a second one of each, and so on, so that an
        early end has seen all functions.
        """
        left_out: Counter[str] = Counter()
        functions: dict[str, list[pytest.Item]] = defaultdict(list)
        for item in items:
            if mark := item.get_closest_marker("unsanitized"):
                left_out[mark.args[0]] += 1
            elif any(mark.name == "skip" for mark in item.iter_markers()):
                left_out["needs more GPUs, or another machine"] += 1
            else:
                functions[item.nodeid.split("[")[0]].append(item)
        kept = []
        for name, cases in functions.items():
            cases.sort(key=lambda item: zlib.crc32((self.salt + item.nodeid).encode()))
            wanted = math.ceil(self.share * len(cases))
            kept += [(turn, zlib.crc32(name.encode()), c) for turn, c in enumerate(cases[:wanted])]
        kept.sort(key=lambda each: each[:2])
        total = sum(map(len, functions.values()))
        items[:] = [item for _, _, item in kept]
        self._note(suite=total, chosen=len(items), left_out=left_out)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Runs what the queue hands out; ends early behind an error that the GPU keeps."""
        while time.time() < self.until and (number := self._next()) < len(session.items):
            item = session.items[number]
            print(f"\n@@ {item.nodeid}", flush=True)
            self._note(start=item.nodeid)
            self.failed = False
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if session.shouldstop or (self.failed and not gpu_works()):
                break
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes how a test ended, and its failures and skips while it is set up."""
        if report.when == "call" or not report.passed:
            self.failed = self.failed or report.failed
            text = str(report.longrepr)[-400:] if report.failed else ""
            self._note(
                test=report.nodeid, outcome=report.outcome, seconds=report.duration, text=text
            )

    def _next(self) -> int:
        with (self.folder / "next").open("a+", encoding="utf-8") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            file.seek(0)
            number = int(file.read() or 0)
            file.truncate(0)
            file.write(str(number + 1))
            return number

    def _note(self, **values: Any) -> None:
        print(json.dumps({"pid": os.getpid(), **values}), file=self.results, flush=True)


def gpu_works() -> bool:
    """Whether the process's GPU still takes work after a test that failed."""
    from vibetensor import cuda

    try:
        for index in range(cuda.device_count()):
            cuda.synchronize(index)
    except RuntimeError:
        return False
    return True
