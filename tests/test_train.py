"""The steps of `train` in the real sandbox with the real sampler: what every switch changes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from azr_jax.learn.batching import Batch
from azr_jax.learn.state import init_state
from azr_jax.report.metrics import Row, read_rows
from azr_jax.selfplay.play import Request, SelfPlayState
from azr_jax.selfplay.prompts import compact
from azr_jax.selfplay.tasks import TASKS, solve_prompt
from azr_jax.selfplay.triplet import InductionTask
from azr_jax.train import train

OpenRun = Callable[..., Any]
ONE_STEP = ("TOTAL_STEPS = 1",)


class Recorder:
    """Stands before an update and keeps the batches that pass."""

    def __init__(self, update: Any) -> None:
        self._update = update
        self.batches: list[Batch] = []

    def __call__(self, state: Any, batch: Batch) -> Any:
        self.batches.append(batch)
        return self._update(state, batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._update, name)


@dataclass
class Played:
    """What a run left, on disk and in the update's ear."""

    directory: Path
    batches: list[Batch]
    state: SelfPlayState
    rows: list[Row] = field(init=False)
    samples: list[Row] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = list(read_rows(self.directory / "metrics"))
        self.samples = list(read_rows(self.directory / "samples"))

    def of(self, role: str) -> list[Row]:
        return [row for row in self.samples if row["role"] == role]


Play = Callable[..., Played]


@pytest.fixture(scope="module")
def play(open_small: OpenRun, tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Plays a small run with some bindings changed."""

    def play(*bindings: str) -> Played:
        directory = tmp_path_factory.mktemp("runs") / "run"
        with open_small(directory, *bindings) as run:
            recorder = run.updater = Recorder(run.updater)
            summary = train(run)
        newest = directory / "checkpoints" / str(summary["steps"]) / "play" / "data.json"
        state = SelfPlayState.from_json(json.loads(newest.read_text())["play"])
        return Played(directory, recorder.batches, state)

    return play


@pytest.fixture(scope="module")
def plain(play: Play) -> Played:
    """One step of the embedded model: what the variants differ from."""
    return play(*ONE_STEP)


def trained(row: Row, role: str) -> float:
    """Tokens of a role that the update saw."""
    return sum(v for k, v in row.items() if k.startswith(f"tokens/{role}/"))


def finite(row: Row) -> bool:
    """The log writes null for what is not finite."""
    return all(value is not None and math.isfinite(value) for value in row.values())


# --- the plain step ----------------------------------------------------------------------------


def test_a_step_learns_from_both_roles(plain: Played) -> None:
    (row,), (batch,) = plain.rows, plain.batches
    assert finite(row)
    assert row["skipped"] == 0
    assert row["late_compiles"] == 0
    assert row["valid_proposals"] > 0
    assert trained(row, "propose") > 0
    assert trained(row, "solve") > 0
    assert trained(row, "propose") + trained(row, "solve") == batch.mask.sum()
    # What the sampler said of its tokens is what the update finds.
    assert max(v for k, v in row.items() if k.startswith("gap_max/")) < 1e-4
    # Valid proposals stay.
    new = [e for b in plain.state.buffers.values() for e in b.entries if e.step == 0]
    assert 0 < len(new) <= row["status/OK"]


# --- switches ----------------------------------------------------------------------------------


def test_proposer_training_off(play: Play, plain: Played) -> None:
    (row,) = play(*ONE_STEP, "RunConfig.train_propose = False").rows
    assert trained(row, "propose") == 0
    assert not any(k.startswith(("policy_loss/propose", "entropy/propose")) for k in row)
    assert trained(row, "solve") == trained(plain.rows[0], "solve")
    assert row["valid_proposals"] == plain.rows[0]["valid_proposals"]


def test_estimates_are_learnt_from_where_asked(play: Play, plain: Played) -> None:
    reused = play(*ONE_STEP, "RunConfig.estimate_reuse = True")
    (row,), (base,) = reused.rows, plain.rows
    assert trained(row, "solve") > trained(base, "solve")
    assert trained(row, "propose") == trained(base, "propose")
    assert row["grad_norm"] != base["grad_norm"]
    assert finite(row)


def test_whitening_by_token_or_by_sequence(play: Play, plain: Played) -> None:
    """By token the mean over tokens vanishes; by sequence it does where lengths are alike only."""

    def means(row: Row) -> list[float]:
        return [abs(v) for k, v in row.items() if k.startswith("policy_loss/")]

    (row,) = play(*ONE_STEP, "RunConfig.whiten = 'sequence'").rows
    assert max(means(plain.rows[0])) < 1e-4
    assert max(means(row)) > 1e-3


def test_only_the_task_types_that_are_asked_for(play: Play) -> None:
    played = play(*ONE_STEP, "PlayConfig.task_types = ('deduction',)")
    (row,) = played.rows
    assert {s["task_type"] for s in played.samples} == {"deduction"}
    assert trained(row, "propose") == row["tokens/propose/deduction"] > 0
    assert trained(row, "solve") == row["tokens/solve/deduction"] > 0
    assert not any(k.startswith(("reward/", "valid/")) and "deduction" not in k for k in row)


def test_references_off(play: Play, plain: Played) -> None:
    bare = {
        (name, TASKS[name].propose_prompt("compact", (), 4)) for name in ("deduction", "abduction")
    }

    def shown(played: Played) -> set[tuple[str, str]]:
        asked = played.of("propose")
        return {(s["task_type"], s["prompt"]) for s in asked if s["task_type"] != "induction"}

    assert shown(play(*ONE_STEP, "PlayConfig.include_references = False")) == bare
    assert not shown(plain) & bare


def solved_at_once(played: Played) -> set[str]:
    """Prompts of the step's solvers that come from proposals of the same step."""
    entries = played.state.buffers["deduction"].entries
    new = {solve_prompt("compact", "deduction", e.task) for e in entries if e.step == 0}
    assert new
    return new & {s["prompt"] for s in played.of("solve")}


def test_solver_lag(play: Play, plain: Played) -> None:
    assert not solved_at_once(plain)
    assert solved_at_once(play(*ONE_STEP, "PlayConfig.solver_lag = 0"))


def test_what_an_extreme_task_earns(play: Play) -> None:
    """With two estimates a task every solve rate is 0, 1/2 or 1."""

    def earned(*bindings: str) -> set[float]:
        proposals = play(*ONE_STEP, *bindings).of("propose")
        return {s["reward"] for s in proposals if s["reward"] is not None} - {0.5, -1.0}

    assert earned() == {0.0}
    assert earned("RewardConfig.zero_extreme = -0.5") == {-0.5}


@pytest.mark.parametrize(("graded", "reward"), [("binary", -0.5), ("graded", 0.5)])
def test_half_of_the_hidden_pairs(
    graded: str, reward: float, open_small: OpenRun, tmp_path: Path
) -> None:
    task = InductionTask(
        "def f(a):\n    return abs(a)", ("0", "1", "2", "-3"), ("0", "1", "2", "3"), ""
    )
    request = Request("solve", "induction", 0, solve_prompt("compact", "induction", task), task)
    with open_small(tmp_path / "run", f"RewardConfig.induction = {graded!r}") as run:
        answers = run.game.grade([request], [compact.answer("def f(a):\n    return a")])
        (scored,) = run.game.reward([], [], answers)
    assert (scored.reward, scored.correct) == (reward, False)


# --- a hopeless model --------------------------------------------------------------------------


def test_garbage_alone_is_told_and_divides_by_nothing(
    play: Play, random_model: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Random weights: not one valid proposal, not one answer; the steps go on and say so."""
    played = play(*random_model)
    said = " ".join(capsys.readouterr().out.split())
    assert "warning: seeding" in said
    for step, row in enumerate(played.rows):
        assert finite(row)
        assert row["valid_proposals"] == 0
        assert not any(k.startswith(("solve_rate/", "novel_proposals")) for k in row)
        assert {v for k, v in row.items() if k.startswith("reward/")} == {-1.0}
        assert f"warning: step {step}: not one valid proposal" in said
    assert len(played.rows) == 2
    assert all((b.advantage == 0).all() for b in played.batches)
    assert {len(b) for b in played.state.buffers.values()} == {1}  # the zero triplet
    summary = json.loads((played.directory / "summary.json").read_text())
    assert summary["valid_proposals"] == {"first_step": 0.0, "mean": 0.0}


def test_a_step_with_nothing_to_learn_from_is_skipped_and_told(
    play: Play, random_model: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """No prompt of a solver fits, and proposers are not trained: the batch is empty."""
    played = play(
        *random_model,
        *ONE_STEP,
        "RunConfig.train_propose = False",
        "PlayConfig.task_types = ('deduction',)",
        "PlayConfig.max_prompt_tokens = 8",
    )
    (row,) = played.rows
    assert finite(row)
    assert (row["skipped"], row["loss"]) == (1.0, 0.0)
    assert "step 0: nothing to learn from, no update" in " ".join(capsys.readouterr().out.split())


# --- meshes ------------------------------------------------------------------------------------


@dataclass
class Spread:
    """What a mesh makes of a run: completions, batches, and an update of known parameters."""

    completions: list[str]
    batches: list[Batch]
    params: Any


@pytest.fixture(scope="module")
def spread(
    open_small: OpenRun, random_model: Sequence[str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Spread]:
    def spread(axes: tuple[int, int, int], recorded: Batch | None = None) -> Spread:
        directory = tmp_path_factory.mktemp("mesh") / "run"
        names = zip(("data", "fsdp", "tensor"), axes, strict=True)
        mesh = [f"MeshConfig.{name} = {size}" for name, size in names]
        game = ["PlayConfig.seed_target = 0", "PlayConfig.batch_size = 2"]
        with open_small(directory, *random_model, *mesh, *game, devices=math.prod(axes)) as run:
            recorder = run.updater = Recorder(run.updater)
            train(run)
            batches = list(recorder.batches)
            # A batch with advantages in it, which garbage has not.
            recorded = recorded or batches[0]
            signs = np.random.default_rng(0).normal(size=recorded.shape).astype(np.float32)
            fresh = init_state(run.policy.model, run.optimizer, run.policy.mesh, seed=3)
            state, _ = run.updater(fresh, recorded.replace(advantage=signs))
            written = [row["completion"] for row in read_rows(directory / "samples")]
            return Spread(written, batches, jax.device_get(state.params))

    return spread


@pytest.fixture(scope="module")
def on_one(spread: Callable[..., Spread]) -> Spread:
    return spread((1, 1, 1))


@pytest.mark.parametrize("axes", [(8, 1, 1), (2, 2, 2), (1, 4, 2)])
def test_every_mesh_samples_the_same_and_learns_the_same(
    axes: tuple[int, int, int], spread: Callable[..., Spread], on_one: Spread
) -> None:
    found = spread(axes, on_one.batches[0])
    assert found.completions == on_one.completions
    for ours, theirs in zip(found.batches, on_one.batches, strict=True):
        np.testing.assert_array_equal(ours.tokens, theirs.tokens)
        np.testing.assert_allclose(ours.behaviour_logp, theirs.behaviour_logp, atol=1e-4)
    for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(on_one.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
