"""Checkpoints: TrainState and the state of the game, saved together, atomically, by Orbax.

A step directory holds four items: `params`, `optimizer` (moments and counters), `play` (JSON) and
`meta` (JSON: format, model, gin config, git revision, sandbox level). A fifth,
`manifest`, lets a restore tell a sound checkpoint from a damaged one. An imported model is a
directory with `params`, `meta` and `manifest` only. Orbax writes to a temporary name and renames,
so a killed save leaves no checkpoint behind; in a bucket, which has no rename, it writes under the
step's own name and marks it complete at the end, and what has no mark is no checkpoint here.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from azr_jax import storage
from azr_jax.errors import UserError
from azr_jax.learn.manifest import (
    FORMAT,
    JSON_ITEMS,
    Json,
    format_refusal,
    is_sound,
    is_whole,
    make_manifest,
    misfit,
)
from azr_jax.learn.retention import Retention
from azr_jax.learn.state import TrainState
from azr_jax.model.config import ModelConfig
from azr_jax.model.transformer import Params

PathLike = storage.PathLike
T = TypeVar("T")

_CHUNK_BYTES = 64 << 20
_MARK = "commit_success.txt"
"""Orbax's, written last; in a bucket it makes a checkpoint one."""
_log = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or none can be read. The message says what to do."""


class _Damaged(Exception):
    """This step directory cannot be restored; an older one may."""


def describe(model: ModelConfig, *, gin_config: str, sandbox_level: str) -> Json:
    """What a checkpoint says of its origin."""
    return {
        "model": model.to_json(),
        "gin_config": gin_config,
        "git_revision": _git_revision(),
        "sandbox_level": sandbox_level,
    }


class Checkpoints:
    """The checkpoints of one run, by step.

    Those stay: the newest `keep`, the steps that `keep_every` divides (0: none), the best of those
    in `scores`, and the newest that is `proven`. All processes of a run call `save` and
    `restore_latest` alike. Nothing is written, not even the directory, before the first save.

    Raises:
      UserError: `directory` has a name that nothing can be saved under.
    """

    def __init__(self, directory: PathLike, keep: int = 3, keep_every: int = 0) -> None:
        self._directory = storage.array_place(directory)
        self._keep = Retention(keep, keep_every)
        self.scores: dict[int, float] = self._keep.scores
        self._damaged: list[int] = []
        self._writer: Any = None

    def prove(self, step: int) -> None:
        """The run has been well up to the state of this step: its newest checkpoint stays."""
        self._keep.proven = step

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, newest first, sound or not."""
        return [int(path.name) for path in _step_directories(self._directory)]

    def save(self, step: int, state: TrainState, play: Json, meta: Json) -> None:
        """Starts to save; returns once `state` may be donated. A step saved before is replaced.

        Checkpoints that `restore_latest` found damaged are removed first.

        Raises:
          CheckpointError: this save or, since saving goes on behind, the one before has failed.
        """
        meta = copy.deepcopy(meta) | {"format": FORMAT, "step": int(step)}
        # Written behind the caller's back, who goes on changing its own.
        play = json.loads(json.dumps(play))
        items = _items(state) | {"play": play, "meta": meta}
        items["manifest"] = make_manifest(items)

        def write() -> None:
            self._require_writable()
            writer = self._open()
            writer.wait()
            for damaged in self._damaged:
                if damaged != step and damaged in self.steps():
                    writer.delete(damaged)
            self._damaged = []
            writer.save_checkpointables_async(step, items, force=True, overwrite=True)

        self._writing(f"step {step}", write)

    def wait(self) -> None:
        """Until the last save is complete.

        Raises:
          CheckpointError: it failed.
        """
        if self._writer is not None:
            self._writing("the last step", self._writer.wait)

    def close(self) -> None:
        """Waits, then lets go of the directory."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            self._writing("the last step", writer.close)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def restore_latest(self, target: TrainState) -> tuple[TrainState, Json, Json] | None:
        """State, play and meta of the newest sound checkpoint; None when there is none at all.

        Args:
          target: shapes, dtypes and shardings to restore into (`abstract_state`); the mesh need not
            be the one that saved.

        Raises:
          UserError: the checkpoint is of another model, or of a newer azr_jax.
          CheckpointError: there are checkpoints, and all are damaged.
        """
        found = _step_directories(self._directory)
        if not found:
            return None
        items, path = _newest_sound(found, _items(target) | {"play": None, "meta": None})
        self._damaged = [int(p.name) for p in found[: found.index(path)]]
        state = TrainState(params=items["params"], **items["optimizer"])
        return state, items["play"], items["meta"]

    def _open(self) -> Any:
        if self._writer is None:
            _quieten_orbax()
            self._writer = ocp.training.Checkpointer(
                self._directory,
                context=_context(),
                preservation_policy=self._keep,
                cleanup_tmp_directories=True,
            )
        return self._writer

    def _require_writable(self) -> None:
        """Fails at once, where a save that fails early leaves threads that wait for minutes."""
        if storage.is_remote(self._directory):
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        probe = self._directory / f".probe-{jax.process_index()}"
        try:
            probe.write_bytes(bytes(65536))
        finally:
            probe.unlink(missing_ok=True)

    def _writing(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            left = []
            with contextlib.suppress(storage.StorageError):
                left = self.steps()
            raise CheckpointError(
                f"could not save {what} in {self._directory}: {_first_line(error)}. Check that it "
                "is writable and has free space, then run the same command again: "
                + (f"it resumes from step {left[0]}" if left else "it starts anew")
            ) from error


@functools.cache
def _quieten_orbax() -> None:
    """Of a failed save its threads log tracebacks, and those of tensorstore, which find the event
    loop closed, print theirs: `wait` raises the same error, once."""

    def wanted(record: logging.LogRecord) -> bool:
        return not (record.levelno == logging.ERROR and "orbax" in record.pathname)

    def hook(unraisable: Any) -> None:
        if "loop is closed" not in str(unraisable.exc_value):
            shown(unraisable)

    shown, sys.unraisablehook = sys.unraisablehook, hook
    logging.getLogger("absl").addFilter(wanted)


def save_params(directory: PathLike, params: Params, meta: Json) -> None:
    """Writes an imported model: a checkpoint of parameters only.

    Raises:
      UserError: `directory` exists and is not empty, or has a name that cannot be used.
      CheckpointError: it cannot be written.
    """
    path = storage.array_place(directory)
    if storage.names(path):
        raise UserError(f"{path} is not empty: name a new directory")
    items = {"params": params, "meta": copy.deepcopy(meta) | {"format": FORMAT, "step": 0}}
    items["manifest"] = make_manifest(items)
    try:
        with _context():
            ocp.save_checkpointables(path, items, overwrite=True)
    except Exception as error:
        raise CheckpointError(
            f"could not write {path}: {_first_line(error)}. Check that it is writable and has free "
            "space, then run the same command again"
        ) from error


def load_params(path: PathLike, target: Params) -> tuple[Params, Json]:
    """Parameters and meta of a run directory (its newest sound checkpoint), a step directory or an
    imported model.

    Args:
      target: a tree of `jax.ShapeDtypeStruct` with shardings; a dtype of its own is converted to.

    Raises:
      UserError: no checkpoint there, or one of another model.
      CheckpointError: all that is there is damaged.
    """
    items, _ = _newest_sound(find(path), {"params": target, "meta": None})
    return items["params"], items["meta"]


def load_meta(path: PathLike) -> Json:
    """The meta of what `load_params` would load, arrays unread; `meta["model"]` shapes the model.

    Raises:
      UserError, CheckpointError: as `load_params`.
    """
    items, _ = _newest_sound(find(path), {"meta": None})
    meta: Json = items["meta"]
    return meta


def find(path: PathLike) -> list[Path]:
    """Step directories that `path` stands for, newest first; the first sound one is meant.

    Raises:
      UserError: there is none.
    """
    root = storage.array_place(path, saves=False)
    if storage.is_folder(root / "params"):
        if not _is_complete(root):
            raise UserError(f"{root} is not whole: it was not written, or not copied, to its end")
        return [root]
    found = _step_directories(root / "checkpoints") or _step_directories(root)
    if not found:
        raise UserError(
            f"no checkpoint in {root}: expected a run directory, a step directory in its "
            "checkpoints/, or the output of azr import"
        )
    return found


def _newest_sound(paths: list[Path], target: Json) -> tuple[Json, Path]:
    reasons = []
    for path in paths:
        try:
            items = _restore(path, target)
        except _Damaged as damage:
            reasons.append(f"{path.name}: {damage}")
            _log.warning("checkpoint %s is damaged (%s); trying an older one", path, damage)
        else:
            return items, path
    raise CheckpointError(
        f"no sound checkpoint in {paths[0].parent}: {'; '.join(reasons)}. Restore one from a copy, "
        "or move these away to start anew"
    )


def _restore(path: Path, target: Json) -> Json:
    """The items of `target` from one step directory, checked against its manifest.

    Raises:
      UserError: sound, but not what `target` describes.
      _Damaged: anything else.
    """
    with _context():
        meta, manifest = _read_json(path, "meta"), {}
        with contextlib.suppress(_Damaged):
            manifest = _read_json(path, "manifest")
        if is_whole(manifest) and not is_sound("meta", meta, manifest):
            raise _Damaged("meta does not match its digest")
        if refusal := format_refusal(meta):
            raise UserError(f"{path} {refusal}")
        if not is_whole(manifest):
            raise _Damaged("its manifest was lost or changed")
        for name, item in target.items():
            if name not in manifest:
                raise UserError(f"{path} has no {name}: it holds a model, not a run")
            if name not in JSON_ITEMS and (difference := misfit(manifest[name], item)):
                raise UserError(f"{path} does not fit this configuration: {difference}")
        items: Json = _reading(path, lambda: ocp.load_checkpointables(path, target))
    for name, item in items.items():
        if not is_sound(name, item, manifest):
            raise _Damaged(f"{name} does not match its digest")
    return items


def _read_json(path: Path, name: str) -> Any:
    return _reading(path, lambda: ocp.load_checkpointables(path, {name: None}))[name]


def _reading(path: Path, load: Callable[[], T]) -> T:
    """`load()` of `path`; the failure of any process is one of all: they fall back together.

    Raises:
      _Damaged: it cannot be read; from a bucket, not a second time either.
      StorageError: the bucket is out of reach, and says nothing of the checkpoint.
    """
    result: Any = None
    for _ in range(2 if storage.is_remote(path) else 1):
        failure = None
        try:
            result = load()
        except Exception as error:
            failure = _first_line(error)
        if jax.process_count() > 1:
            failed = multihost_utils.process_allgather(np.asarray(failure is not None))
            if failed.any() and failure is None:
                failure = "another process could not read it"
        if failure is None:
            loaded: T = result
            return loaded
        storage.names(path)
    raise _Damaged(failure)


def _items(state: TrainState) -> Json:
    """The array items of a state, concrete or abstract."""
    rest = {"opt_state": state.opt_state, "step": state.step, "skipped": state.skipped}
    return {"params": state.params, "optimizer": rest}


def _step_directories(root: Path) -> list[Path]:
    """Directories named by a step, newest first."""
    found = [root / name for name in storage.names(root) if name.isdecimal()]
    return sorted(filter(_is_complete, found), key=lambda path: -int(path.name))


def _is_complete(path: Path) -> bool:
    """Whether a directory is there; in a bucket, one that has the mark."""
    return _MARK in storage.names(path) if storage.is_remote(path) else path.is_dir()


def _context() -> Any:
    context = ocp.Context()
    registry = ocp.handlers.local_registry()
    for name in JSON_ITEMS:
        registry.add(ocp.handlers.JsonHandler, checkpointable_name=name)
    context.checkpointables.registry = registry
    # `azr export` then holds some of an array, never all of it.
    context.array.saving.storage_options.chunk_byte_size = _CHUNK_BYTES
    return context


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _git_revision() -> str | None:
    """The checkout's commit; None for an installed package, wherever it is installed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
