"""The few tests that tools/sanitize.py --cover picks launch all that the others do."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest
import sources


@pytest.fixture(scope="module")
def cover() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "sanitizer_cover", sources.ROOT / "tools" / "sanitizer_cover.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["sanitizer_cover"] = module
    spec.loader.exec_module(module)
    return module


def test_whose_a_kernel_is(cover: ModuleType) -> None:
    assert cover.owner("void vt::cuda::(anonymous namespace)::copy<float>(float*)") == "ours"
    assert cover.owner("_ZN2vt4cuda4copyEPf") == cover.owner("fused") == "ours"
    assert cover.owner("void at::native::copy<float>(float*)") == "PyTorch's"
    assert cover.owner("nvjet_sm90_tst_128x128_64x6_2x1_v_bz_TNN") == "a library's"


def test_the_chosen_tests_launch_everything_and_long_ones_begin(
    cover: ModuleType, tmp_path: Path
) -> None:
    dice = random.Random(3)
    launched = {
        f"test_{i}": cover.Launched(
            9 * dice.random() ** 4,
            kernels := frozenset(f"vt::k{dice.randrange(200)}" for _ in range(dice.randrange(9))),
            frozenset(kernel for kernel in kernels if kernel < "vt::k5"),
        )
        for i in range(400)
    }
    chosen = cover.choose(launched)
    assert len(chosen) == len(set(chosen)) < 200
    assert cover.covered(launched, chosen)["share"] == 1.0
    long = [launched[test].cost >= cover.LONG for test in chosen]
    assert True in long and long == sorted(long, reverse=True)
    cover.write(tmp_path / "launched.json", launched)
    again = cover.read([tmp_path / "launched.json"])
    assert {t: (each.kernels, each.shared) for t, each in again.items()} == {
        t: (each.kernels, each.shared) for t, each in launched.items()
    }


def test_racecheck_has_to_see_what_was_launched_with_shared_memory(cover: ModuleType) -> None:
    both = frozenset({"vt::a", "vt::b", "nvjet"})
    launched = {
        "with": cover.Launched(1.0, both, frozenset({"vt::b", "nvjet"})),
        "without": cover.Launched(0.1, both),
    }
    seen = cover.with_shared_memory(launched)
    assert (seen["with"].own, seen["without"].own) == ({"vt::b"}, frozenset())
    assert cover.choose(seen) == ["with"] and cover.choose(launched) == ["without"]
    assert cover.choose(launched, seen={"without": 60.0}) == ["with"]


def test_what_is_skipped_is_not_chosen_and_what_only_it_launches_is_named(
    cover: ModuleType,
) -> None:
    launched = {
        "slow": cover.Launched(9.0, frozenset({"vt::a", "vt::b", "vt::c"})),
        "short": cover.Launched(0.1, frozenset({"vt::a"})),
        "other": cover.Launched(0.1, frozenset({"vt::b", "nvjet"})),
    }
    assert sorted(cover.choose(launched, ["slow"])) == ["other", "short"]
    found = cover.covered(launched, ["other", "short", "without a list"])
    assert (found["covered"], found["launched_by_the_suite"]) == (2, 3)
    assert found["not_covered"] == {"vt::c": 1}
    assert (found["templates"], found["templates_launched_by_the_suite"]) == (2, 3)
