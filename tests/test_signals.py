"""Ctrl-C and SIGTERM: what is told, what is saved, what is lost, and how fast it ends."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from azr_jax.evals.harness import BENCHMARKS
from azr_jax.learn.batching import Batch
from azr_jax.model.sampler import Completion, Prompt
from azr_jax.report.metrics import read_rows
from azr_jax.rollout import PURPOSES
from azr_jax.run import Run
from azr_jax.selfplay.triplet import (
    TASK_TYPES,
    ZERO_INDUCTION_TASK,
    ZERO_TRIPLET,
    task_to_json,
)
from azr_jax.signals import Interrupted, Stopper
from azr_jax.train import train
from tests.until import PATIENCE_S

OpenRun = Callable[..., Any]
OF_THE_MACHINE = ("seconds", "tokens_per_s", "sandbox/")
ROOT = Path(__file__).resolve().parent.parent
MEASURED = (
    "EvalConfig.test = 'tiny-test'",
    "EvalConfig.dev = 'tiny-dev'",
    "EvalConfig.samples = 1",
    "EvalConfig.dev_samples = 1",
    "EvalConfig.temperatures = (0.5, 1.0)",
)
GAME = ("PlayConfig.batch_size = 2", "PlayConfig.seed_target = 2", "RunConfig.save_every = 9")


# --- alone -------------------------------------------------------------------------------------


def quiet() -> str:
    return ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_what_may_be_stopped_and_waits_for_what_may_not(number: int) -> None:
    told: list[str] = []
    stopper, before = Stopper(), signal.getsignal(number)
    passed = []
    with (
        pytest.raises(Interrupted),
        stopper.listening(told.append, quiet),
    ):
        stopper.hold()
        signal.raise_signal(number)
        passed.append("held")
        stopper.check()
        passed.append("still held")
        stopper.release()
        passed.append("released")
    assert passed == ["held", "still held"]
    assert len(told) == 1
    assert signal.getsignal(number) is before


def test_an_exception_that_was_lost_is_raised_at_the_next_check() -> None:
    stopper = Stopper()
    with stopper.listening(lambda text: None, quiet):
        with contextlib.suppress(Interrupted):  # as a finaliser does
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted):
            stopper.check()


def test_the_second_signal_ends_a_process_that_runs_no_python() -> None:
    """The main thread computes in C for hours, and runs no handler meanwhile."""
    script = """
import hashlib
from azr_jax.selfplay.triplet import (
    TASK_TYPES,
    ZERO_INDUCTION_TASK,
    ZERO_TRIPLET,
    task_to_json,
)
from azr_jax.signals import Stopper
stopper = Stopper()
with stopper.listening(lambda text: print(text, flush=True), lambda: "the last words"):
    stopper.hold()
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, text=True, stdout=-1, stderr=-1
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline().startswith("stopping")  # two signals at once would be one
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (1, "azr: the last words\n")


# --- a run -------------------------------------------------------------------------------------


class Watched:
    """Stands before a sampler: raises a signal with a completion, and notes what was asked."""

    def __init__(self, run: Run, when: Callable[[Prompt], bool]) -> None:
        self._sampler, self._when = run.sampler, when
        self.heard: list[Prompt] = []

    def stream(self, params: Any, prompts: Sequence[Prompt], **given: Any) -> Iterator[Completion]:
        self.heard += prompts
        for done in self._sampler.stream(params, prompts, **given):
            if self._when(prompts[done.prompt]):
                signal.raise_signal(signal.SIGTERM)
            yield done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)


def never(prompt: Prompt) -> bool:
    return False


@dataclass
class Left:
    """What a run leaves: its rows but for times, and its parameters."""

    rows: list[dict[str, Any]]
    params: list[np.ndarray]
    heard: list[Prompt]


Play = Callable[..., Left]


@pytest.fixture(scope="module")
def three_tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Benchmarks of the three zero tasks."""
    path = tmp_path_factory.mktemp("benchmarks") / "three.jsonl"
    rows = []
    for name in TASK_TYPES:
        task = ZERO_INDUCTION_TASK if name == "induction" else ZERO_TRIPLET
        of = {"id": name, "task_type": name, "category": "level 1", "task": task_to_json(task)}
        rows.append(json.dumps(of) + "\n")
    path.write_text("".join(rows))
    with pytest.MonkeyPatch.context() as patch:
        for name in BENCHMARKS:
            patch.setitem(BENCHMARKS, name, path)
        yield


@pytest.fixture(scope="module")
def play(open_small: OpenRun, three_tasks: None) -> Play:
    def play(directory: Path, when: Callable[[Prompt], bool] = never, update: Any = None) -> Left:
        with open_small(directory, *GAME, *MEASURED) as run:
            watched = run.sampler = Watched(run, when)
            run.updater = update(run.updater) if update else run.updater
            train(run)
            state, _ = run.complete
            params = [np.asarray(x) for x in jax.tree.leaves(state.params)]
        rows = [
            {k: v for k, v in row.items() if not k.startswith(OF_THE_MACHINE)}
            for row in read_rows(directory / "metrics")
        ]
        return Left(rows, params, watched.heard)

    return play


@pytest.fixture(scope="module")
def whole(play: Play, tmp_path_factory: pytest.TempPathFactory) -> Left:
    return play(tmp_path_factory.mktemp("runs") / "whole")


def purpose(prompt: Prompt) -> tuple[int, str]:
    """Step and purpose; seeding counts its rounds from -1 down."""
    return prompt.stream[0], PURPOSES[prompt.stream[1]]


class Signalling:
    """An update that a signal comes to."""

    def __init__(self, update: Any) -> None:
        self._update = update

    def __call__(self, state: Any, batch: Batch) -> Any:
        signal.raise_signal(signal.SIGINT)
        return self._update(state, batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._update, name)


def test_stopped_in_every_phase_it_loses_at_most_a_step(
    play: Play, tmp_path: Path, whole: Left
) -> None:
    run, heard = tmp_path / "run", list[Prompt]()

    def stopped(says: str, step: int | None = None, name: str = "", update: Any = None) -> None:
        heard.clear()

        def when(prompt: Prompt) -> bool:
            heard.append(prompt)
            return purpose(prompt) == (step, name)

        with pytest.raises(Interrupted, match=says):
            play(run, when, update)

    stopped("nothing is saved yet; the same command starts anew", 0, "evaluate")
    assert (-2, "seed") in map(purpose, whole.heard)
    stopped("saved step 0; the same command goes on from there", -2, "seed")
    # An update is finished; a step that has none yet is not.
    stopped("saved step 1; the same command goes on from there", update=Signalling)
    # Neither the first measurement nor the first round of seeding was made again.
    assert purpose(heard[0]) == (-2, "seed")
    stopped("saved step 1; the same command goes on from there", 1, "propose")
    stopped("saved step 2; the same command goes on from there", 0, "evaluate")
    left = play(run)
    assert set(map(purpose, left.heard)) == {(0, "evaluate")}
    assert left.rows == whole.rows
    for ours, theirs in zip(left.params, whole.params, strict=True):
        np.testing.assert_array_equal(ours, theirs)
