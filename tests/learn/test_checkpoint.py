"""Checkpoints survive kills, damage, other meshes, full disks, and say so when they cannot."""

from __future__ import annotations

import logging
import resource
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from azr_jax.errors import UserError
from azr_jax.learn import checkpoint
from azr_jax.learn.checkpoint import CheckpointError, Checkpoints
from azr_jax.learn.optimizer import OptimizerConfig, make_optimizer
from azr_jax.learn.state import TrainState, abstract_state, init_state
from azr_jax.model.config import ModelConfig
from azr_jax.model.sharding import MeshConfig, make_mesh
from azr_jax.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=32, d_model=16, layers=2, heads=2, kv_heads=1, head_dim=8, d_ff=32)
MODEL = Transformer(CONFIG)
OPTIMIZER = make_optimizer(OptimizerConfig(), total_steps=10)
PLAY = {"buffers": {"deduction": [["def f(x):\n    return x", "1", "1"]]}, "step": 7, "rate": 0.5}
META = checkpoint.describe(CONFIG, gin_config="A.b = 1\n", sandbox_level="process")


@pytest.fixture(scope="module")
def mesh() -> Any:
    return make_mesh(MeshConfig(2, 2, 2))


@pytest.fixture(scope="module")
def state(mesh: Any) -> TrainState:
    fresh = init_state(MODEL, OPTIMIZER, mesh, seed=3)
    return fresh.replace(step=jnp.int32(7))


@pytest.fixture(scope="module")
def target(mesh: Any) -> TrainState:
    return abstract_state(MODEL, OPTIMIZER, mesh)


@pytest.fixture
def saved(tmp_path: Path, state: TrainState) -> Path:
    """A run with checkpoints of steps 5 and 10."""
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        for step in (5, 10):
            checkpoints.save(step, state, PLAY | {"step": step}, META)
    return tmp_path / "run"


def equal(a: Any, b: Any) -> bool:
    same = jax.tree.map(
        lambda x, y: x.dtype == y.dtype and bool((x == y).all()), *map(host, (a, b))
    )
    return jax.tree.all(same)


def host(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)


def array_file(step: Path) -> Path:
    return max(step.glob("params/**/d/*"), key=lambda path: path.stat().st_size)


def flip_bit(step: Path) -> None:
    """Orbax itself does not notice."""
    path = array_file(step)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))


def truncate(step: Path) -> None:
    path = array_file(step)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose_play(step: Path) -> None:
    (step / "play" / "data.json").unlink()


def edit_play(step: Path) -> None:
    path = step / "play" / "data.json"
    path.write_text(path.read_text().replace("return x", "return y"))


def lose_everything(step: Path) -> None:
    for path in step.rglob("*"):
        if path.is_file():
            path.unlink()


def test_round_trip(saved: Path, state: TrainState, target: TrainState) -> None:
    restored = Checkpoints(saved / "checkpoints").restore_latest(target)
    assert restored is not None
    got, play, meta = restored
    assert equal(got, state)
    assert jax.tree.structure(got) == jax.tree.structure(state)
    assert play == PLAY | {"step": 10}
    assert type(play["step"]) is int
    assert meta == META | {"format": checkpoint.FORMAT, "step": 10}
    assert ModelConfig.from_json(meta["model"]) == CONFIG


@pytest.mark.parametrize("axes", [(1, 1, 1), (8, 1, 1), (1, 4, 2)])
def test_restores_onto_another_mesh(saved: Path, state: TrainState, axes: tuple[int, ...]) -> None:
    mesh = make_mesh(MeshConfig(*axes), jax.devices()[: int(np.prod(axes))])
    target = abstract_state(MODEL, OPTIMIZER, mesh)
    restored = Checkpoints(saved / "checkpoints").restore_latest(target)
    assert restored is not None
    assert equal(restored[0], state)
    assert jax.tree.all(
        jax.tree.map(
            lambda x, t: x.sharding.is_equivalent_to(t.sharding, x.ndim), restored[0], target
        )
    )


@pytest.mark.parametrize("harm", [flip_bit, truncate, lose_play, edit_play, lose_everything])
def test_falls_back_from_a_damaged_checkpoint(
    saved: Path, state: TrainState, target: TrainState, harm: Any, caplog: Any
) -> None:
    harm(saved / "checkpoints" / "10")
    with Checkpoints(saved / "checkpoints", keep=1) as checkpoints:
        with caplog.at_level(logging.WARNING):
            restored = checkpoints.restore_latest(target)
        assert restored is not None and restored[2]["step"] == 5
        assert "10 is damaged" in caplog.text
        # The damaged one must not crowd out what is saved next.
        checkpoints.save(8, state, PLAY, META)
        checkpoints.wait()
        assert checkpoints.steps() == [8]


def test_all_damaged_is_an_error_not_a_fresh_start(saved: Path, target: TrainState) -> None:
    for step in (5, 10):
        flip_bit(saved / "checkpoints" / str(step))
    with pytest.raises(CheckpointError, match="no sound checkpoint"):
        Checkpoints(saved / "checkpoints").restore_latest(target)


def test_nothing_there_is_none_and_writes_nothing(tmp_path: Path, target: TrainState) -> None:
    assert Checkpoints(tmp_path / "checkpoints").restore_latest(target) is None
    assert list(tmp_path.iterdir()) == []


def test_keeps_the_last_n_and_replaces_a_step(tmp_path: Path, state: TrainState) -> None:
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3, 3):
            checkpoints.save(step, state, PLAY, META)
    assert checkpoints.steps() == [3, 2]


def test_a_killed_save_leaves_no_checkpoint(saved: Path, target: TrainState) -> None:
    """What is left of one is a directory under a temporary name, and goes at the next save."""
    (saved / "checkpoints" / "15.orbax-checkpoint-tmp").mkdir()
    restored = Checkpoints(saved / "checkpoints").restore_latest(target)
    assert restored is not None and restored[2]["step"] == 10


def test_a_saved_state_may_be_donated_and_play_changed(tmp_path: Path, state: TrainState) -> None:
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    target = abstract_state(MODEL, OPTIMIZER, mesh)
    before, play = host(state), {"seen": [1]}
    state = jax.tree.map(lambda x, t: jax.device_put(np.array(x), t.sharding), before, target)
    overwrite = jax.jit(lambda s: jax.tree.map(lambda x: -1 - x, s), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, play, META)
        overwrite(state)
        play["seen"].append(2)
    restored = Checkpoints(tmp_path).restore_latest(target)
    assert restored is not None
    assert equal(restored[0], before)
    assert restored[1] == {"seen": [1]}


@pytest.mark.parametrize("where", [".", "checkpoints", "checkpoints/10"])
def test_params_from_a_run_a_folder_of_steps_or_a_step(
    saved: Path, state: TrainState, target: TrainState, where: str
) -> None:
    params, meta = checkpoint.load_params(saved / where, target.params)
    assert equal(params, state.params)
    assert meta["step"] == 10
    assert checkpoint.load_meta(saved / where) == meta


def test_params_of_an_imported_model(tmp_path: Path, state: TrainState, target: TrainState) -> None:
    checkpoint.save_params(tmp_path / "model", state.params, META)
    params, meta = checkpoint.load_params(tmp_path / "model", target.params)
    assert equal(params, state.params)
    assert meta["model"] == CONFIG.to_json()
    with pytest.raises(UserError, match="not empty"):
        checkpoint.save_params(tmp_path / "model", state.params, META)


def test_params_in_another_dtype(saved: Path, state: TrainState, target: TrainState) -> None:
    half = jax.tree.map(lambda x: x.update(dtype=jnp.bfloat16), target.params)
    params, _ = checkpoint.load_params(saved, half)
    assert equal(params, jax.tree.map(lambda x: x.astype(jnp.bfloat16), state.params))


def test_no_checkpoint_is_the_users_to_mend(tmp_path: Path, target: TrainState) -> None:
    with pytest.raises(UserError, match="no checkpoint in"):
        checkpoint.load_params(tmp_path, target.params)


def test_another_model_is_refused_not_skipped(saved: Path, mesh: Any) -> None:
    wider = ModelConfig.from_json(CONFIG.to_json() | {"d_ff": 64})
    with pytest.raises(UserError, match="does not fit"):
        Checkpoints(saved / "checkpoints").restore_latest(
            abstract_state(Transformer(wider), OPTIMIZER, mesh)
        )


def test_a_newer_format_is_refused(
    tmp_path: Path, state: TrainState, target: TrainState, monkeypatch: Any
) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 99)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, PLAY, META)
    monkeypatch.undo()
    with pytest.raises(UserError, match="format 99"):
        Checkpoints(tmp_path).restore_latest(target)


def test_an_unwritable_directory_is_one_clear_error(tmp_path: Path, state: TrainState) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"could not save step 1 in .*writable"):
        Checkpoints(tmp_path / "file" / "checkpoints").save(1, state, PLAY, META)


def test_a_full_disk_is_one_clear_error_and_spares_the_older(
    saved: Path, state: TrainState, target: TrainState
) -> None:
    """A limit on file size fails writes half-way, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoints = Checkpoints(saved / "checkpoints")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(CheckpointError, match="resumes from step 10"):
            checkpoints.save(15, state, PLAY, META)
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    restored = Checkpoints(saved / "checkpoints").restore_latest(target)
    assert restored is not None and restored[2]["step"] == 10
