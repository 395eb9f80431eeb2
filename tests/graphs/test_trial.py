"""Which form graphs of several ranks take, from what a trial of each finds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import pytest

from vibetensor import _C, graph_trial

TWO = [_C.device("cuda:0"), _C.device("cuda:1")]  # names only: the trial is replaced
SHARED = [_C.device("cuda:0")] * 2


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[bool, str]], list[bool]]:
    """Replaces the trials by answers; gives the forms that were tried."""

    def answer(reasons: dict[bool, str]) -> list[bool]:
        tried: list[bool] = []

        def trial(ranks: Sequence[_C.device], *, whole: bool) -> str:
            tried.append(whole)
            return reasons[whole]

        monkeypatch.setattr(graph_trial, "trial", trial)
        monkeypatch.setattr(graph_trial, "_forms", {})
        return tried

    return answer


@pytest.mark.parametrize("ranks", [TWO[:1], SHARED], ids=["one rank", "one GPU"])
def test_one_gpu_needs_no_trial(
    ranks: Sequence[_C.device], trials: Callable[[dict[bool, str]], list[bool]]
) -> None:
    tried = trials({True: "no", False: "no"})
    assert graph_trial.form_for(ranks) == graph_trial.Form(True, "")
    assert tried == []


def test_ranks_are_tried_once(trials: Callable[[dict[bool, str]], list[bool]]) -> None:
    tried = trials({True: "", False: ""})
    for _ in range(3):
        assert graph_trial.form_for(TWO) == graph_trial.Form(True, "")
    assert tried == [True]


def test_one_graph_a_gpu_where_the_whole_one_fails_with_one_line(
    trials: Callable[[dict[bool, str]], list[bool]], caplog: pytest.LogCaptureFixture
) -> None:
    tried = trials({True: "wrong sums", False: ""})
    with caplog.at_level(logging.WARNING, "vibetensor.capture"):
        for _ in range(2):
            assert graph_trial.form_for(TWO) == graph_trial.Form(False, "")
    assert tried == [True, False]
    (line,) = [record.getMessage() for record in caplog.records]
    assert "cuda:0, cuda:1" in line and "wrong sums" in line


def test_what_works_in_no_form_says_why(
    trials: Callable[[dict[bool, str]], list[bool]],
) -> None:
    tried = trials({True: "wrong sums", False: "too late"})
    problem = graph_trial.form_for(TWO).problem
    assert "wrong sums" in problem and "too late" in problem
    assert tried == [True, False]
