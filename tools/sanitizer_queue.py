"""A pytest plugin: processes take tests from one queue, until it is empty or time is up.

tools/sanitize.py starts them. Each collects the same list, and a locked file says which tests are
taken, so that no process waits for another. The tests of a file stay with the process that took its
first one for as long as others are left: a kernel's first launch in a process, when it is loaded
and patched, takes far longer than those behind it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
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
    group.addoption("--queue-skip", type=Path, help="names of tests that are left out, in lines")
    group.addoption("--queue-only", type=Path, help="names of tests, in lines: these, so ordered")
    group.addoption("--queue-rest", action="store_true", help="behind these, all others")
    group.addoption("--queue-kernels", action="store_true", help="note which kernels tests launch")


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
        self.me = worker.split("-")[0]  # the same for a process that follows one that ended
        self.results = (self.folder / f"results-{worker}.jsonl").open("a", encoding="utf-8")
        skip: Path | None = config.getoption("--queue-skip")
        self.skip = set(skip.read_text(encoding="utf-8").splitlines()) if skip else set()
        only: Path | None = config.getoption("--queue-only")
        names = only.read_text(encoding="utf-8").splitlines() if only else []
        self.only = {name: number for number, name in enumerate(names)}
        self.kernels: dict[str, int] | None = {} if config.getoption("--queue-kernels") else None
        self.failed = False

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keeps the share of each function's cases that chance picks, the same in every process.

        The order is: a case of every function, then a second one of each, and so on, so that an
        early end has seen all functions. Where tests were named, these run in that order.
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
        total = sum(map(len, functions.values()))
        for name, cases in functions.items():
            cases[:] = [item for item in cases if item.nodeid not in self.skip]
            cases.sort(key=lambda item: zlib.crc32((self.salt + item.nodeid).encode()))
            wanted = math.ceil(self.share * len(cases))
            kept += [(turn, zlib.crc32(name.encode()), c) for turn, c in enumerate(cases[:wanted])]
        kept.sort(key=lambda each: each[:2])
        items[:] = [item for _, _, item in kept]
        if self.only:
            rest = items if config.getoption("--queue-rest") else []
            rest = [item for item in rest if item.nodeid not in self.only]
            items[:] = [item for item in items if item.nodeid in self.only]
            items.sort(key=lambda item: self.only[item.nodeid])
            self.only = {item.nodeid: number for number, item in enumerate(items)}
            items += rest
        self._note(suite=total, chosen=len(items), left_out=left_out)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Runs what the queue hands out; ends early behind an error that the GPU keeps."""
        files = [item.nodeid.split("::")[0] for item in session.items]
        while time.time() < self.until and (number := self._next(files)) is not None:
            item = session.items[number]
            print(f"\n@@ {item.nodeid}", flush=True)
            self._note(start=item.nodeid)
            self.failed = False
            with self._watched(item.nodeid):
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

    def _next(self, files: list[str]) -> int | None:
        """Takes a test: the first of a file that is this process's or nobody's, or else the last of
        the file with most left."""
        with (self.folder / "next").open("a+", encoding="utf-8") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            file.seek(0)
            state = json.loads(file.read() or "{}") or {"taken": "0" * len(files), "owners": {}}
            taken, owners = state["taken"], state["owners"]
            free = [i for i, mark in enumerate(taken) if mark == "0"]
            free = [i for i in free if i < len(self.only)] or free
            number = next((i for i in free if owners.get(files[i], self.me) == self.me), None)
            if number is not None:
                owners[files[number]] = self.me
            elif free:
                left = Counter(files[i] for i in free)
                most = max(left, key=left.__getitem__)
                number = max(i for i in free if files[i] == most)
            else:
                return None
            state["taken"] = taken[:number] + "1" + taken[number + 1 :]
            file.truncate(0)
            file.write(json.dumps(state))
            return number

    @contextlib.contextmanager
    def _watched(self, test: str) -> Iterator[None]:
        """Notes the kernels that are launched meanwhile, where that is asked for."""
        if self.kernels is None:
            yield
            return
        from vibetensor.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as found:
            yield
        shared: dict[str, int] = {}  # most bytes of shared memory that a launch had
        launches = [e for e in found.events() if e.kind == "kernel"]
        for each in launches:
            size = each.details["shared_bytes"]
            shared[each.name] = max(shared.get(each.name, 0), size)
        fresh = [name for name in sorted(shared) if name not in self.kernels]
        self.kernels |= {name: n for n, name in enumerate(fresh, len(self.kernels))}
        self._note(
            launched_by=test,
            fresh=fresh,
            launched=[[self.kernels[name], size] for name, size in sorted(shared.items())],
            launches=len(launches),
        )

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
