"""The topology, its table, and the command that prints it."""

from __future__ import annotations

import json

import pytest

import vibetensor
from vibetensor import cli, fabric
from vibetensor.cli import topo
from vibetensor.fabric.nvml import ranges
from vibetensor.fabric.topology import Node, Pair, Topology


def pair(link: str, **changes: object) -> Pair:
    values = {
        "reported": True,
        "verified": True,
        "usable": True,
        "tried": link != "X",
        "atomics": True,
        "veto": "",
    }
    return Pair(link=link, **{**values, **changes})  # type: ignore[arg-type]


def two_gpus(there: Pair) -> Topology:
    nodes = [Node(f"cuda:{i}", "GPU", 2**36, f"0000:0{i}:00.0", "0-3", "0") for i in range(2)]
    return Topology(nodes, [[pair("X"), there], [pair("NV18"), pair("X")]])


def test_without_a_gpu_the_cpu_devices_are_shown() -> None:
    if vibetensor._C.device_count("cuda"):
        pytest.skip("this machine has a GPU")
    vibetensor.set_cpu_devices(3)
    found = fabric.topology()
    assert [node.device for node in found.nodes] == ["cpu:0", "cpu:1", "cpu:2"]
    assert [pair.link for pair in found.pairs[1]] == ["HOST", "X", "HOST"]
    assert all(pair.usable for row in found.pairs for pair in row)
    assert fabric.inspect_topology() == found


def test_the_command_prints_a_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["topo"]) == 0
    text = capsys.readouterr().out
    assert "CPU affinity" in text and "NUMA affinity" in text
    assert cli.main(["topo", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["devices"][0]["device"] in text
    assert found["cliques"][0][0] == found["devices"][0]["device"]


def test_groups_are_printed() -> None:
    text = topo.table(two_gpus(pair("NV18")))
    assert "all reach each other: cuda:0 cuda:1\n" in text
    assert "Ring over the best links: cuda:0 cuda:1" in text
    apart = topo.table(two_gpus(pair("SYS", reported=False, verified=False, usable=False)))
    assert "cuda:0 | cuda:1" in apart and "best links: none" in apart


@pytest.mark.parametrize(
    ("there", "verdict", "bad"),
    [
        (pair("NV18"), "OK", False),
        (pair("PHB", verified=False, usable=False, veto="12 words are wrong"), "VETO", True),
        (pair("PIX", tried=False, verified=False), "FORCED", False),
        (pair("PIX", tried=False, verified=False, usable=False, veto="off"), "OFF", False),
        (pair("SYS", tried=False, reported=False, verified=False, usable=False), "NO", False),
    ],
)
def test_the_verdict_on_a_pair(there: Pair, verdict: str, bad: bool) -> None:
    found = two_gpus(there)
    assert there.verdict == verdict
    assert bool(found.bad_pairs) is bad
    text = topo.table(found)
    assert verdict in text and there.link in text
    assert ("bad pair: cuda:0 to cuda:1" in text) is bad


def test_a_bad_pair_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = two_gpus(pair("PHB", verified=False, usable=False, veto="a flag did not come back"))
    monkeypatch.setattr(fabric, "topology", lambda: bad)
    assert cli.main(["topo"]) == 1
    assert cli.main(["topo", "--json"]) == 1


def test_ranges() -> None:
    assert ranges([]) == ""
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"


@pytest.mark.cuda
def test_gpus_are_found_and_usable() -> None:
    found = fabric.topology()
    assert all(node.device.startswith("cuda:") for node in found.nodes)
    assert not found.bad_pairs
    assert all(node.memory_bytes > 2**30 for node in found.nodes)


@pytest.mark.cuda(devices=2)
def test_gpus_reach_each_other() -> None:
    found = fabric.topology()
    assert found.pairs[0][1].verdict in ("OK", "NO")
    assert found.pairs[0][1].link != "?"
