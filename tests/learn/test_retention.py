"""Which checkpoints stay, and how a checkpoint fares between meshes and formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr_jax.errors import UserError
from azr_jax.learn import checkpoint, manifest
from azr_jax.learn.batching import Sample, pack
from azr_jax.learn.checkpoint import CheckpointError, Checkpoints
from azr_jax.learn.optimizer import OptimizerConfig, make_optimizer
from azr_jax.learn.retention import Retention
from azr_jax.learn.state import TrainState, abstract_state, init_state
from azr_jax.learn.update import LossConfig, make_update
from azr_jax.model.config import ModelConfig
from azr_jax.model.sharding import MeshConfig, make_mesh
from azr_jax.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=32, d_model=16, layers=2, heads=2, kv_heads=2, head_dim=8, d_ff=32)
MODEL = Transformer(CONFIG)
OPTIMIZER = make_optimizer(OptimizerConfig(eps=1e-4), total_steps=10)
META = checkpoint.describe(CONFIG, gin_config="A.b = 1\n", sandbox_level="process")


def mesh_of(fsdp: int, tensor: int) -> Any:
    return make_mesh(MeshConfig(1, fsdp, tensor), jax.devices()[: fsdp * tensor])


@pytest.fixture(scope="module")
def state() -> TrainState:
    return init_state(MODEL, OPTIMIZER, mesh_of(1, 1), seed=3)


@pytest.fixture
def target() -> TrainState:
    return abstract_state(MODEL, OPTIMIZER, mesh_of(1, 1))


# --- what stays --------------------------------------------------------------------------------


def test_the_last_every_mth_and_the_best_stay(tmp_path: Path, state: TrainState) -> None:
    with Checkpoints(tmp_path, keep=1, keep_every=4) as checkpoints:
        for step, score in enumerate([0.1, 0.6, 0.2, 0.4, 0.6, 0.3], 1):
            checkpoints.save(step, state, {}, META)
            checkpoints.scores[step] = score
    assert checkpoints.steps() == [6, 5, 4]
    # Another process, which knows the scores from the log.
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.scores.update({5: 0.6, 6: 0.3})
        checkpoints.save(7, state, {}, META)
    assert checkpoints.steps() == [7, 5]


@given(
    steps=st.sets(st.integers(0, 50), min_size=1),
    scores=st.dictionaries(st.integers(0, 50), st.floats(0, 1)),
    last=st.integers(1, 5),
    every=st.integers(0, 7),
)
def test_nothing_else_stays(
    steps: set[int], scores: dict[int, float], last: int, every: int
) -> None:
    class At:
        def __init__(self, step: int) -> None:
            self.step = step

    retention = Retention(last, every)
    retention.scores.update(scores)
    kept = retention.should_preserve([At(s) for s in sorted(steps)], context=None)
    stay = {s for s, keep in zip(sorted(steps), kept, strict=True) if keep}
    known = [scores[s] for s in steps if s in scores]
    for step in steps - stay:
        assert sum(s > step for s in steps) >= last
        assert not every or step % every
        assert step not in scores or scores[step] <= max(known)
    assert len(stay) <= last + 1 + (len([s for s in steps if s % every == 0]) if every else 0)
    assert not known or max(known) in {scores[s] for s in stay if s in scores}


@pytest.mark.parametrize(("keep", "every"), [(0, 0), (1, -1)])
def test_a_policy_that_keeps_nothing_is_refused(keep: int, every: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least"):
        Checkpoints(tmp_path, keep, every)


# --- what is there already -----------------------------------------------------------------------


def test_foreign_files_are_left_alone(
    tmp_path: Path, state: TrainState, target: TrainState
) -> None:
    """Whatever is not named by a number."""
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state, {"n": 1}, META)
    foreign = ("notes.txt", ".DS_Store", "best/params", "12abc/x", "3")
    for name in foreign:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        restored = checkpoints.restore_latest(target)
        assert restored is not None and restored[1] == {"n": 1}
        checkpoints.save(2, state, {}, META)
    assert checkpoints.steps() == [2]
    assert all((tmp_path / name).read_text() == "mine" for name in foreign)


@pytest.mark.parametrize(("found", "message"), [(0, "older format 0"), (99, "newer format 99")])
def test_another_format_is_told_with_what_to_do(
    found: int,
    message: str,
    tmp_path: Path,
    state: TrainState,
    target: TrainState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", found)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {}, META | {"git_revision": "cafe"})
    monkeypatch.undo()
    with pytest.raises(UserError, match=rf"{message}.*go on with the azr_jax.*cafe"):
        Checkpoints(tmp_path).restore_latest(target)
    # … whatever its manifest looks like.
    (tmp_path / "1" / "manifest" / "data.json").write_text('{"other": 1}')
    with pytest.raises(UserError, match=message):
        Checkpoints(tmp_path).restore_latest(target)


def test_a_format_that_a_flipped_bit_made_is_damage(
    tmp_path: Path, state: TrainState, target: TrainState
) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state, {}, META)
    path = tmp_path / "2" / "meta" / "data.json"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps(meta | {"format": 3}))
    restored = Checkpoints(tmp_path).restore_latest(target)
    assert restored is not None and restored[2]["step"] == 1


def test_a_checkpoint_of_something_else_is_no_checkpoint(
    tmp_path: Path, target: TrainState
) -> None:
    (tmp_path / "1" / "weights").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"no sound checkpoint in .*start anew"):
        Checkpoints(tmp_path).restore_latest(target)


def test_a_checkpoint_names_its_origin() -> None:
    assert META.keys() == {"model", "gin_config", "git_revision", "sandbox_level"}
    assert manifest.format_refusal(META | {"format": checkpoint.FORMAT}) is None


def test_outside_a_checkout_there_is_no_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the package lies in the checkout of something else."""
    installed = tmp_path / "venv" / "azr_jax" / "learn" / "checkpoint.py"
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(checkpoint, "__file__", str(installed))
    assert checkpoint.describe(CONFIG, gin_config="", sandbox_level="1")["git_revision"] is None


# --- meshes ------------------------------------------------------------------------------------


def recorded() -> Any:
    """A batch as the sampler would have made it."""
    draw = np.random.default_rng(0)
    samples = [
        Sample(
            prompt=tuple(draw.integers(0, 32, 4).tolist()),
            completion=tuple(draw.integers(0, 32, 9).tolist()),
            behaviour_logp=tuple(draw.normal(-3, 0.1, 9).tolist()),
            advantage=float(draw.normal()),
            group=index % 6,
            weight=1.0,
        )
        for index in range(16)
    ]
    return pack(samples, (16,), rows=16, multiple=16)


def test_saved_on_4x2_restored_on_2x4_and_on_one_device(tmp_path: Path) -> None:
    origin = init_state(MODEL, OPTIMIZER, mesh_of(4, 2), seed=3).replace(step=jnp.int32(7))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, origin, {}, META)
    saved, batch, updated = jax.device_get(origin), recorded(), []
    for fsdp, tensor in ((4, 2), (2, 4), (1, 1)):
        mesh = mesh_of(fsdp, tensor)
        found = Checkpoints(tmp_path).restore_latest(abstract_state(MODEL, OPTIMIZER, mesh))
        assert found is not None
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(found[0]), saved)
        update = make_update(
            MODEL, OPTIMIZER, LossConfig(), mesh, temperature=1.0, valid_ids=32, micro_rows=2
        )
        state, _ = update(found[0], batch)
        updated.append(jax.device_get(state))
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), updated[0].params, saved.params)
    assert max(jax.tree.leaves(moved)) > 1e-7
    for other in updated[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), other, updated[0])
