"""Runs the CUDA tests under NVIDIA's compute-sanitizer, many processes at once.

    python tools/sanitize.py --tool memcheck --jobs 12 --json memcheck.json
    python tools/sanitize.py --tool racecheck --share 0.2 --seconds 100 tests/ops tests/fuse
    python tools/sanitize.py --tool none --kernels launched.json
    python tools/sanitize.py --tool racecheck --cover launched.json

Tests marked `unsanitized` are left out, each with its reason. Ends with 1 where the sanitizer found
something, races within a library's kernel aside, or a test failed, with 2 where nothing could be
run. docs/sanitizers.md says more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sanitizer_cover

ROOT = Path(__file__).resolve().parent.parent
# Of Python the tool would take the stack at every launch. For that it waits for the GIL while it
# holds the driver's lock, so that two threads wait for each other; and it keeps frames.
SHOWN = 500  # findings a process; the tool says nothing of more
COMMON = ["--target-processes", "all", "--print-limit", str(SHOWN), "--show-backtrace", "device"]
TOOLS = {
    # Calls that fail are part of tests; every return code is checked where it comes back.
    "memcheck": ["--report-api-errors", "no"],
    "racecheck": [],
    "synccheck": [],
    "initcheck": [],
    "none": [],
}
# What a log says at the end. Racecheck also counts what it shows, which ends at its limit.
SUMMARY = re.compile(
    r"========= (?:ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY:.*\((\d+) errors?, (\d+) warning)"
)
# Racecheck has missed a launch, and may miss what follows.
LOST = "========= Internal Sanitizer Error"
# The first line of a finding: not indented, and not one of the sanitizer's own remarks, or that
# pytest ended with 1.
ENDED = "Error: process didn't terminate successfully"
FINDING = re.compile(r"^========= ((?:Error|Warning|Invalid|Program|Barrier|Uninit|Misaligned).*)")
# Where it was: in that line, or in one of the next.
PLACE = re.compile(r"^=========.* at (.+)\+0x[0-9a-f]+")


@dataclass
class Report:
    """What all processes did."""

    tests: dict[str, str] = field(default_factory=dict)  # outcome by name
    seconds: dict[str, float] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)  # the end of a failure's text
    ended: list[str] = field(default_factory=list)  # tests in which a process ended
    findings: list[dict[str, str]] = field(default_factory=list)
    counted: int = 0  # by the sanitizer's own summaries
    no_summary: int = 0  # processes that were ended before it
    lost: list[str] = field(default_factory=list)  # tests in which the tool lost track
    # Tests from there on, or since the tool has shown all that it shows: they prove nothing.
    unseen: set[str] = field(default_factory=set)
    suite: int = 0  # tests that there are, without those left out
    chosen: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    # By test: kernels, and the most bytes of shared memory that each had.
    kernels: dict[str, dict[str, int]] = field(default_factory=dict)

    def others(self, tool: str) -> int:
        """Findings that say nothing of our code: races in the shared memory of others' kernels."""
        listed = [each["in"] for each in self.findings] if tool == "racecheck" else []
        return sum(owner not in ("ours", "unknown") for owner in listed)

    def launched(self) -> dict[str, sanitizer_cover.Launched]:
        """What the tests launched, where that was noted."""
        return {
            test: sanitizer_cover.Launched(
                self.seconds.get(test, 0.0),
                frozenset(sizes),
                frozenset(name for name, size in sizes.items() if size),
            )
            for test, sizes in self.kernels.items()
        }


class Group:
    """Tests that are collected together, with a queue of their own."""

    def __init__(self, path: str, folder: Path) -> None:
        self.paths, self.folder = path.split(","), folder / path.replace("/", "_")[:80]
        self.folder.mkdir(parents=True, exist_ok=True)

    def left(self) -> int:
        """How many tests wait; 1 as long as that is not known."""
        found = [n for f in self.folder.glob("results-*.jsonl") for n in lines(f)[:1]]
        for state in lines(self.folder / "next"):
            return int(state["taken"].count("0"))
        return int(found[0]["chosen"]) if found else 1


class Worker:
    """One process of pytest under the sanitizer."""

    def __init__(self, args: argparse.Namespace, group: Group, number: int, turn: int) -> None:
        self.number, self.turn, self.group = number, turn, group
        folder, name = group.folder, f"{number}-{turn}"
        self.log = folder / f"log-{name}.txt"
        command = [sys.executable, "-m", "pytest", "-p", "sanitizer_queue", "-q", "-s"]
        command += ["-p", "no:cacheprovider", "-m", args.mark, "--timeout", str(args.test_seconds)]
        command += ["--queue", str(folder), "--queue-worker", name, "--tb=short"]
        command += ["--queue-share", str(args.share), "--queue-until", str(args.until)]
        command += [f"--queue-salt={args.salt}"]
        command += ["--queue-skip", str(args.skip)] if args.skip else []
        command += ["--queue-only", str(args.only)] if args.only else []
        command += ["--queue-rest"] if args.rest else []
        command += ["--queue-kernels"] if args.kernels else []
        if args.tool != "none":
            sanitizer = [args.sanitizer, "--tool", args.tool, *COMMON, *TOOLS[args.tool]]
            command = sanitizer + args.option + command
        gpus = args.gpus.split(",")
        # Kernels are patched when they are loaded: all of them at once would take minutes.
        seen = gpus[number % len(gpus)].replace("+", ",")
        own = {"CUDA_MODULE_LOADING": "LAZY", "CUDA_VISIBLE_DEVICES": seen}
        # Pools of as many threads as cores in each of many processes would wait for each other.
        own["OMP_NUM_THREADS"] = own["VIBETENSOR_NUM_THREADS"] = str(args.threads)
        paths = [str(ROOT / "tools"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        own["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*command, *group.paths],
                cwd=ROOT,
                env={**os.environ, **own},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def silent(self) -> float:
        """Seconds since it last began or ended a test."""
        notes = self.group.folder / f"results-{self.number}-{self.turn}.jsonl"
        return time.time() - (notes if notes.exists() else self.log).stat().st_mtime

    def ask(self) -> None:
        """Interrupts the test, so that the sanitizer still says what it counted."""
        name = f"results-{self.number}-{self.turn}.jsonl"
        for note in lines(self.group.folder / name)[-1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(note["pid"], signal.SIGINT)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def run_all(args: argparse.Namespace, groups: list[Group]) -> None:
    """Keeps the processes going until all queues are empty or time is up."""
    running = [Worker(args, groups[n % len(groups)], n, 0) for n in range(args.jobs)]
    try:
        asked = False
        while running and time.time() < args.until + args.grace:
            time.sleep(0.2)
            if not asked and time.time() > args.until + args.grace / 2:
                asked = True
                for worker in running:
                    worker.ask()
            for worker in running:
                # pytest's own limit needs a thread that runs; collecting tests takes a while, too.
                if worker.silent() > args.test_seconds + 20:
                    worker.end()
            for worker in [w for w in running if w.process.poll() is not None]:
                running.remove(worker)
                # The next one helps where most is left: often where an error ended this one.
                group = max(groups, key=Group.left)
                if group.left() and worker.turn < 50 and time.time() < args.until - 5:
                    running.append(Worker(args, group, worker.number, worker.turn + 1))
    finally:
        for worker in running:
            worker.end()


def lines(file: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file, without one that was cut off."""
    found = []
    for text in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            found.append(json.loads(text))
        except ValueError:
            break
    return found


def read_all(groups: list[Group], tool: str) -> Report:
    """Joins the lists and logs of all processes."""
    report = Report()
    counted: set[Path] = set()
    for file in [f for g in groups for f in sorted(g.folder.glob("results-*.jsonl"))]:
        last = None
        names: list[str] = []
        for note in lines(file):
            if "suite" in note:
                if file.parent not in counted:
                    counted.add(file.parent)
                    report.suite += note["suite"]
                    report.chosen += note["chosen"]
                    report.left_out.update(note["left_out"])
            elif "start" in note:
                last = note["start"]
            elif "launched" in note:
                names += note["fresh"]
                sizes = {names[number]: size for number, size in note["launched"]}
                report.kernels[note["launched_by"]] = sizes
            else:
                name = note["test"]
                last = None if name == last else last
                if report.tests.get(name) != "failed":
                    report.tests[name] = note["outcome"]
                report.seconds[name] = report.seconds.get(name, 0.0) + note["seconds"]
                if note["text"]:
                    report.texts[name] = note["text"]
        if last is not None:
            report.ended.append(last)
    for file in [f for g in groups for f in sorted(g.folder.glob("log-*.txt"))]:
        test, done, seen, before = "", False, True, len(report.findings)
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("@@ "):
                test = line[3:]
                seen = seen and len(report.findings) - before < SHOWN
                report.unseen |= set() if seen else {test}
            elif found := SUMMARY.match(line):
                report.counted += sum(int(count) for count in found.groups() if count)
                done = True
            elif line.startswith(LOST):
                report.lost.append(test)
                report.unseen.add(test)
                seen = False
            elif (found := FINDING.match(line)) and found[1] != ENDED:
                whose = "unknown"
                report.findings.append({"during or after": test, "what": found[1], "in": whose})
            open_ = report.findings and report.findings[-1]["in"] == "unknown"
            if open_ and (place := PLACE.match(line)):
                report.findings[-1]["in"] = sanitizer_cover.owner(place[1])
        report.no_summary += not done and tool != "none"
    return report


def names_in(file: Path | None) -> list[str]:
    """The lines of a file; none of no file."""
    return file.read_text(encoding="utf-8").splitlines() if file else []


def choose(args: argparse.Namespace, launched: dict[str, sanitizer_cover.Launched]) -> str:
    """Writes the names of few tests that launch all of our kernels; their files, as a group."""
    within = tuple(path for group in args.tests for path in group.split(","))
    skip = names_in(args.skip)
    asked = {test: each for test, each in launched.items() if not within or test.startswith(within)}
    seen: dict[str, float] = {}
    for file in args.costs:
        seen |= json.loads(file.read_text(encoding="utf-8"))
    chosen = sanitizer_cover.choose(asked, skip, seen)
    if args.first:
        first = re.compile(args.first)
        chosen.sort(key=lambda test: not any(map(first.search, launched[test].own)))
    args.only.write_text("".join(f"{test}\n" for test in chosen), encoding="utf-8")
    if args.rest:
        return ",".join(within or folders())
    return ",".join(sorted({test.split("::")[0] for test in chosen}))


def folders() -> list[str]:
    """The folders with CUDA tests, that with most lines first: it gets processes first."""
    sizes: Counter[str] = Counter()
    for file in (ROOT / "tests").glob("*/test_*.py"):
        text = file.read_text(encoding="utf-8")
        sizes[f"tests/{file.parent.name}"] += text.count("\n") * ("mark.cuda" in text)
    # The meshes of these tests are marked where they are made.
    sizes["tests/sharding"] += 1000
    return [name for name, size in sizes.most_common() if size]


def table(report: Report) -> str:
    """A line a folder of tests: how many passed, failed and were skipped, and their seconds."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for name, outcome in report.tests.items():
        folder = str(Path(name.split("::")[0]).parent)
        for key in (folder, "all"):
            rows[key][outcome] += 1
            rows[key]["seconds"] += round(report.seconds[name])
    head = ["passed", "failed", "skipped", "seconds"]
    out = [f"{'':24}" + "".join(f"{title:>10}" for title in head)]
    for key in sorted(rows, key=lambda key: (key == "all", key)):
        out.append(f"{key:24}" + "".join(f"{rows[key][title]:>10}" for title in head))
    return "\n".join(out)


def provenance() -> dict[str, Any]:
    """Where and from what this ran."""
    sys.path.insert(0, str(ROOT))
    from vibetensor.cli.provenance import provenance as found

    return found()


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("tests", nargs="*", help="all by default; a,b: one queue for both")
    add("--tool", choices=TOOLS, default="memcheck")
    add("--jobs", type=int, default=8, help="processes (default 8)")
    given = os.environ.get("CUDA_VISIBLE_DEVICES") or "0"
    add("--threads", type=int, default=2, help="of each process, on the host")
    add("--gpus", default=given, help="they take turns on these, as in 0,1; 0+1: each sees both")
    add("--share", type=float, default=1.0, help="of the cases of each test")
    add("--salt", default="", help="another text picks and orders other cases")
    add("--seconds", type=float, default=3600.0, help="no test starts after that")
    add("--grace", type=float, default=15.0, help="seconds to end what has begun")
    add("--test-seconds", type=int, default=60, help="limit of one test")
    add("--mark", default="cuda", help="of pytest, which tests (default cuda)")
    add("--option", action="append", default=[], help="one more for the sanitizer")
    add("--skip", type=Path, help="file with names of tests not to run, in lines")
    every = "files of --kernels: few tests that launch every kernel of ours that these tell of"
    add("--cover", type=Path, nargs="+", default=[], help=every)
    add("--costs", type=Path, nargs="+", default=[], help="files of --times: --cover goes by them")
    add("--first", help="a pattern: tests of --cover that launch kernels of such names begin")
    add("--rest", action="store_true", help="behind those of --cover, all others")
    add("--passed", type=Path, help="write the names of those that passed there")
    add("--times", type=Path, help="write there how many seconds each took, a limit twice")
    add("--kernels", type=Path, help="write who launched what there (tool none)")
    add("--logs", type=Path, help="keep what the processes printed there")
    add("--json", type=Path, help="write the result there")
    args = parser.parse_args()
    if args.kernels and args.tool != "none":
        parser.error("--kernels needs --tool none: CUPTI and a sanitizer cannot share a process")
    args.sanitizer = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path="/usr/local/cuda/bin"
    )
    args.skip = args.skip and args.skip.resolve()
    return args


def say(args: argparse.Namespace, report: Report, found: dict[str, Any]) -> None:
    """Prints what failed and was found, a table, and a line of the whole."""
    for name in found["failed"]:
        print(f"FAILED {name}\n    " + report.texts.get(name, "").strip().replace("\n", "\n    "))
    for name in report.ended:
        print(f"ENDED IN {name}")
    for name in report.lost:
        print(f"THE TOOL LOST A LAUNCH IN {name}")
    for finding in report.findings[:60]:
        what, test = finding["what"], finding["during or after"]
        print(f"FOUND {what} (a kernel that is {finding['in']}; during or after {test})")
    print(table(report))
    for reason, count in report.left_out.items():
        print(f"left out {count:5}  {reason}")
    print(
        f"{args.tool}: {len(report.tests)} of {report.chosen} chosen of {report.suite} tests "
        f"in {found['seconds']} s by {args.jobs} processes, {len(found['failed'])} failed, "
        f"{len(report.ended)} cut off; {report.counted} findings, "
        f"{report.others(args.tool)} of them races in a library's kernels, "
        f"{report.no_summary} processes without a summary"
    )
    if share := found["kernels"]:
        of, left = share["launched_by_the_suite"], list(share["not_covered"].items())
        what = f"{of} kernels"
        if args.tool == "racecheck":
            every = found["of_all_kernels"]["launched_by_the_suite"]
            what += f" with shared memory, of {every}"
        print(f"tests that passed launch {share['covered']} of our {what}; the others:")
        print("\n".join(f"{count:5} {template}" for template, count in left[:20]) or "none")


def main() -> int:
    """Runs, prints a table and what was found."""
    args = arguments()
    if args.tool != "none" and args.sanitizer is None:
        print("compute-sanitizer is not installed; it is part of the CUDA toolkit", file=sys.stderr)
        return 2
    start = time.time()
    args.until = start + args.seconds
    every = launched = sanitizer_cover.read(args.cover)
    if args.tool == "racecheck":
        launched = sanitizer_cover.with_shared_memory(every)
    with tempfile.TemporaryDirectory() as room:
        folder = args.logs or Path(room)
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("tests*/"):
            shutil.rmtree(old)
        args.only = (folder / "chosen.txt").resolve() if args.cover else None
        if args.only is not None:
            args.tests = [choose(args, launched)]
        groups = [Group(path, folder) for path in args.tests or folders()]
        run_all(args, groups)
        report = read_all(groups, args.tool)
    passed = sorted(name for name, outcome in report.tests.items() if outcome == "passed")
    seen = [name for name in passed if name not in report.unseen]
    found = {
        "tool": args.tool,
        "share": args.share,
        "salt": args.salt,
        "jobs": args.jobs,
        "seconds": round(time.time() - start, 1),
        "options": COMMON + TOOLS[args.tool] + args.option if args.tool != "none" else [],
        "suite": report.suite,
        "chosen": report.chosen,
        "left_out": report.left_out,
        "named_in_skip": len(names_in(args.skip)),
        "ran": len(report.tests),
        "outcomes": Counter(report.tests.values()),
        "findings": report.counted,
        "findings_in_libraries": report.others(args.tool),
        "reports_by_owner": Counter(each["in"] for each in report.findings),
        "kernels": sanitizer_cover.covered(launched, seen) if launched else None,
        "of_all_kernels": sanitizer_cover.covered(every, seen) if launched else None,
        "found": report.findings[:200],
        "processes_without_summary": report.no_summary,
        "lost_a_launch": report.lost,
        "tests_behind_that_or_too_many_findings": len(report.unseen),
        "failed": sorted(name for name, outcome in report.tests.items() if outcome == "failed"),
        "cut_off": report.ended,
        "functions": sorted({name.split("[")[0] for name in report.tests}),
    }
    say(args, report, found)
    if args.json:
        text = json.dumps({**found, **provenance()}, indent=1)
        args.json.write_text(text + "\n", encoding="utf-8")
    if args.passed:
        args.passed.write_text("".join(f"{name}\n" for name in passed), encoding="utf-8")
    if args.times:
        # One that came to a limit would have taken longer.
        took = {t: s * (2 if report.tests[t] == "failed" else 1) for t, s in report.seconds.items()}
        args.times.write_text(json.dumps(took) + "\n", encoding="utf-8")
    if args.kernels:
        sanitizer_cover.write(args.kernels, report.launched())
    if not report.tests:
        return 2
    ours = max(report.counted, len(report.findings)) - report.others(args.tool)
    return 1 if found["failed"] or ours else 0


if __name__ == "__main__":
    sys.exit(main())
