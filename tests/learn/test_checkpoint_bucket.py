"""Checkpoints in a bucket: no rename, a mark instead; a bucket that goes away, and comes back."""

from __future__ import annotations

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from azr_jax import storage
from azr_jax.errors import UserError
from azr_jax.learn import checkpoint
from azr_jax.learn.arrays import ParamsReader
from azr_jax.learn.checkpoint import CheckpointError, Checkpoints
from azr_jax.learn.state import TrainState, abstract_state, init_state
from azr_jax.model.sharding import MeshConfig, make_mesh
from tests.emulator import Emulator, impatience
from tests.learn.test_checkpoint import META, MODEL, OPTIMIZER, PLAY, equal


@pytest.fixture(scope="module")
def state() -> TrainState:
    mesh = make_mesh(MeshConfig(1, 2, 1), jax.devices()[:2])
    return init_state(MODEL, OPTIMIZER, mesh, seed=3).replace(step=jnp.int32(7))


@pytest.fixture(scope="module")
def target() -> TrainState:
    return abstract_state(MODEL, OPTIMIZER, make_mesh(MeshConfig(), jax.devices()[:1]))


@pytest.fixture(scope="module")
def saved(emulator: Emulator, state: TrainState) -> Path:
    """A run with checkpoints of steps 5 and 10, for all to read; one of step 1 was there."""
    directory = storage.locate(emulator.make_bucket("azr-saved") + "/run/checkpoints")
    with Checkpoints(directory, keep=2) as checkpoints:
        for step in (1, 5, 10):
            checkpoints.save(step, state, PLAY | {"step": step}, META)
    return directory


@pytest.fixture
def copy(bucket: str, saved: Path) -> Path:
    """A copy of it, to be harmed."""
    storage._filesystem().copy(str(saved), f"{bucket}/checkpoints", recursive=True)
    return storage.locate(f"{bucket}/checkpoints")


def objects(folder: Path) -> list[str]:
    found: list[str] = storage._filesystem().find(str(folder))
    return [f"gs://{name}" for name in found]


def test_saved_kept_and_restored_on_another_mesh(
    saved: Path, state: TrainState, target: TrainState
) -> None:
    checkpoints = Checkpoints(saved)
    assert checkpoints.steps() == [10, 5]
    assert objects(saved / "1") == []
    restored = checkpoints.restore_latest(target)
    assert restored is not None
    assert equal(restored[0], state)
    assert restored[1:] == (PLAY | {"step": 10}, META | {"format": checkpoint.FORMAT, "step": 10})
    for place in (saved.parent, saved, saved / "5"):
        params, _ = checkpoint.load_params(place, target.params)
        assert equal(params, state.params)


def test_piece_by_piece(saved: Path, state: TrainState) -> None:
    """As an export reads it."""
    reader = ParamsReader(saved / "10")
    (first, rows), *_ = reader.pieces("embedding")
    reader.verify()
    assert first == 0
    np.testing.assert_array_equal(rows, np.asarray(state.params["embedding"]))


def test_falls_back_from_a_damaged_checkpoint(
    copy: Path, state: TrainState, target: TrainState
) -> None:
    (data, *_) = (name for name in objects(copy / "10" / "params") if "/d/" in name)
    content = bytearray(storage.read(storage.locate(data)) or b"")
    content[len(content) // 2] ^= 4
    storage.write(storage.locate(data), bytes(content))
    with Checkpoints(copy) as checkpoints:
        restored = checkpoints.restore_latest(target)
        assert restored is not None and restored[2]["step"] == 5
        checkpoints.save(8, state, PLAY, META)
        checkpoints.wait()
        assert checkpoints.steps() == [8, 5]


def test_a_save_that_did_not_end_is_no_checkpoint(
    copy: Path, state: TrainState, target: TrainState
) -> None:
    for name in objects(copy / "10"):
        storage.write(
            storage.locate(name.replace("/10/", "/15/")), storage.read(storage.locate(name)) or b""
        )
    storage.remove(copy / "15" / "commit_success.txt")
    assert Checkpoints(copy).steps() == [10, 5]
    with pytest.raises(UserError, match="15 is not whole"):
        checkpoint.find(copy / "15")
    with Checkpoints(copy, keep=3) as checkpoints:
        restored = checkpoints.restore_latest(target)
        assert restored is not None and restored[2]["step"] == 10
        checkpoints.save(15, state, PLAY | {"step": 15}, META)
        checkpoints.wait()
        assert checkpoints.steps() == [15, 10, 5]
        restored = checkpoints.restore_latest(target)
        assert restored is not None and restored[1]["step"] == 15


def test_a_short_absence_within_a_save_is_waited_out(
    copy: Path, state: TrainState, target: TrainState, emulator: Emulator
) -> None:
    with Checkpoints(copy) as checkpoints:
        checkpoints.save(12, state, PLAY | {"step": 12}, META)
        with emulator.gate.shut():
            time.sleep(0.5)
        checkpoints.wait()
    restored = Checkpoints(copy).restore_latest(target)
    assert restored is not None and restored[2]["step"] == 12


def test_without_its_bucket_a_save_and_a_restore_fail_and_say_so(
    copy: Path, state: TrainState, target: TrainState, emulator: Emulator
) -> None:
    checkpoints = Checkpoints(copy)
    with emulator.gate.shut(), impatience():
        with pytest.raises(storage.StorageError, match="cannot be read"):
            checkpoints.restore_latest(target)
        with pytest.raises(CheckpointError, match="could not save step 11 in gs://"):
            checkpoints.save(11, state, PLAY, META)
            checkpoints.wait()


def test_a_bucket_that_goes_away_is_no_damage(
    copy: Path, target: TrainState, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken for it, the newest checkpoint would be removed at the next save."""
    load = checkpoint.ocp.load_checkpointables
    with emulator.gate.shut(), impatience():
        monkeypatch.setattr(checkpoint, "_step_directories", lambda root: [root / "10", root / "5"])
        with pytest.raises(storage.StorageError, match="10 cannot be read"):
            Checkpoints(copy).restore_latest(target)
    monkeypatch.undo()
    calls = []

    def fails_once(*given: object) -> object:
        calls.append(given)
        if len(calls) == 1:
            raise TimeoutError("a request was lost")
        return load(*given)

    monkeypatch.setattr(checkpoint.ocp, "load_checkpointables", fails_once)
    restored = Checkpoints(copy).restore_latest(target)
    assert restored is not None and restored[2]["step"] == 10
