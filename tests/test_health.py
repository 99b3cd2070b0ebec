"""A run that has gone bad says so, ends non-zero, and keeps its last good checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from azr_jax import cli
from azr_jax.observe import PolicyMismatch, RunFailed, symptoms
from azr_jax.policy import EMBEDDED
from azr_jax.report.metrics import read_rows
from azr_jax.train import train

OpenRun = Callable[..., Any]


def test_nan_in_the_weights_is_told_at_the_first_step(
    open_small: OpenRun, tmp_path: Path, small_gin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(EMBEDDED, tmp_path / "nan")
    weights = load_file(folder / "model.safetensors")
    name = next(n for n, w in weights.items() if w.ndim == 2 and "layers" in n)
    weights[name] = weights[name].copy()
    weights[name][0, 0] = np.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    flags = [f"RunConfig.init_checkpoint = {str(folder)!r}", "PlayConfig.seed_target = 0"]
    given = [f"--gin_bindings={flag}" for flag in flags]
    command = ["train", "--gin_file", str(small_gin), "--run_dir", str(tmp_path / "run"), *given]
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--steps", "9"])
    assert "not finite" in str(ended.value.code)
    assert [row["step"] for row in read_rows(tmp_path / "run" / "metrics")] == [0]


def test_a_destroyed_model_ends_the_run_and_leaves_what_was_good(
    open_small: OpenRun, tmp_path: Path
) -> None:
    bindings = (
        *("OptimizerConfig.learning_rate = 1e38", "TOTAL_STEPS = 20", "RunConfig.save_every = 1"),
        *("RunConfig.keep = 1", "RunConfig.max_bad_steps = 3", "PlayConfig.seed_target = 0"),
    )
    run_dir = tmp_path / "run"
    with (
        pytest.raises((RunFailed, PolicyMismatch)) as ended,
        open_small(run_dir, *bindings) as run,
    ):
        train(run)
    # The first update destroyed it: what step 0 began with is the last state that was well.
    assert f"last good checkpoint is {run_dir / 'checkpoints' / '0'}" in str(ended.value)
    assert (run_dir / "checkpoints" / "0" / "params").is_dir()


def test_steps_without_a_valid_proposal_end_the_run_also_across_a_resume(
    open_small: OpenRun, tmp_path: Path, random_model: list[str]
) -> None:
    bindings = [
        *random_model,
        *("RunConfig.save_every = 1", "RunConfig.max_bad_steps = 4", "PlayConfig.seed_target = 0"),
    ]
    with open_small(tmp_path / "run", *bindings, "TOTAL_STEPS = 2") as run:
        train(run)
    with (
        pytest.raises(RunFailed, match=r"step 3: .*not one valid proposal; 4 bad steps in a row"),
        open_small(tmp_path / "run", *bindings, "TOTAL_STEPS = 20") as run,
    ):
        train(run)


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"skipped": 0.0, "advantage_max": 1.5, "valid_proposals": 0.5}, None),
        ({"skipped": 0.0, "advantage_max": 1.5}, None),  # nothing to judge: all held out
        ({"skipped": 1.0, "advantage_max": 1.5, "valid_proposals": 0.5}, "not finite"),
        ({"skipped": 0.0, "advantage_max": 1.5, "valid_proposals": 0.0}, "valid proposal"),
        ({"skipped": 0.0, "advantage_max": 0.0, "valid_proposals": 0.5}, "advantages are 0"),
        ({"skipped": 1.0, "advantage_max": 0.0, "valid_proposals": 0.5}, "nothing to learn"),
        ({"skipped": 1.0}, "not finite"),  # a row of an older version
    ],
)
def test_symptoms(row: dict[str, float], word: str | None) -> None:
    found = symptoms(row)
    assert len(found) == (word is not None)
    assert word is None or word in found[0]
