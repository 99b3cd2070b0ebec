"""Checkpoints: TrainState and the state of the game, saved together, atomically, by Orbax.

A step directory holds four items: `params`, `optimizer` (moments and counters), `play` (JSON) and
`meta` (JSON: format, model, gin config, git revision, sandbox level). A fifth, `manifest`, lets a
restore tell a sound checkpoint from one with a flipped bit, which the array files alone do not. An
imported model is a directory with `params`, `meta` and `manifest` only. Orbax writes to a temporary
name and renames, or marks a directory complete, so a killed save leaves no checkpoint behind.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from azr_jax.errors import UserError
from azr_jax.learn.state import TrainState
from azr_jax.model.config import ModelConfig
from azr_jax.model.transformer import Params

FORMAT = 1
"""Version of what a step directory holds; a newer one is refused."""

Json = dict[str, Any]
PathLike = str | os.PathLike[str]
T = TypeVar("T")

_JSON_ITEMS = ("play", "meta", "manifest")
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
    """The checkpoints of one run, by step; the newest `keep` of them stay.

    All processes of a run call `save` and `restore_latest` alike. Nothing is written, not even the
    directory, before the first save.
    """

    def __init__(self, directory: PathLike, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"Checkpoints.keep must be at least 1, not {keep}")
        self._directory = epath.Path(os.path.abspath(directory) if _local(directory) else directory)
        self._keep = keep
        self._damaged: list[int] = []
        self._writer: Any = None

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
        items["manifest"] = _manifest(items)

        def write() -> None:
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
            logging.getLogger("absl").addFilter(_not_of_a_save)
            self._writer = ocp.training.Checkpointer(
                self._directory,
                context=_context(),
                preservation_policy=ocp.training.preservation_policies.LatestN(self._keep),
                cleanup_tmp_directories=True,
            )
        return self._writer

    def _writing(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            left = self.steps() if self._directory.exists() else []
            raise CheckpointError(
                f"could not save {what} in {self._directory}: {_first_line(error)}. Check that it "
                "is writable and has free space, then run the same command again: "
                + (f"it resumes from step {left[0]}" if left else "it starts anew")
            ) from error


def _not_of_a_save(record: logging.LogRecord) -> bool:
    """Drops the tracebacks that Orbax's threads log: `wait` raises the same errors, once."""
    return not (record.levelno == logging.ERROR and "orbax" in record.pathname)


def save_params(directory: PathLike, params: Params, meta: Json) -> None:
    """Writes an imported model: a checkpoint of parameters only.

    Raises:
      UserError: `directory` exists and is not empty.
      CheckpointError: it cannot be written.
    """
    path = epath.Path(os.path.abspath(directory) if _local(directory) else directory)
    if path.exists() and any(path.iterdir()):
        raise UserError(f"{path} is not empty: name a new directory")
    items = {"params": params, "meta": copy.deepcopy(meta) | {"format": FORMAT, "step": 0}}
    items["manifest"] = _manifest(items)
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


def find(path: PathLike) -> list[epath.Path]:
    """Step directories that `path` stands for, newest first; the first sound one is meant.

    Raises:
      UserError: there is none.
    """
    root = epath.Path(os.path.abspath(path) if _local(path) else path)
    if (root / "params").is_dir():
        return [root]
    found = _step_directories(root / "checkpoints") or _step_directories(root)
    if not found:
        raise UserError(
            f"no checkpoint in {root}: expected a run directory, a step directory in its "
            "checkpoints/, or the output of azr import"
        )
    return found


def _newest_sound(paths: list[epath.Path], target: Json) -> tuple[Json, epath.Path]:
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


def _restore(path: epath.Path, target: Json) -> Json:
    """The items of `target` from one step directory, checked against its manifest.

    Raises:
      UserError: sound, but not what `target` describes.
      _Damaged: anything else.
    """
    with _context():
        known = _reading(lambda: ocp.load_checkpointables(path, {"meta": None, "manifest": None}))
        manifest, meta = known["manifest"], known["meta"]
        if manifest.pop("manifest", "") != _text_digest(manifest):
            raise _Damaged("its manifest was changed")
        if manifest["meta"] != _text_digest(meta):
            raise _Damaged("meta does not match its digest")
        if meta["format"] > FORMAT:
            raise UserError(
                f"{path} has format {meta['format']}, this azr_jax reads up to {FORMAT}: "
                "use the newer one that wrote it"
            )
        for name, item in target.items():
            if name not in manifest:
                raise UserError(f"{path} has no {name}: it holds a model, not a run")
            if name not in _JSON_ITEMS:
                _check_shapes(path, manifest[name], item)
        items: Json = _reading(lambda: ocp.load_checkpointables(path, target))
    for name, item in items.items():
        if name in _JSON_ITEMS:
            sound = manifest[name] == _text_digest(item)
        else:
            # Leaves that were converted to another dtype as they were read cannot be checked.
            sound = all(
                leaf["digest"] == manifest[name][key]["digest"]
                for key, leaf in _array_manifest(item).items()
                if leaf["dtype"] == manifest[name][key]["dtype"]
            )
        if not sound:
            raise _Damaged(f"{name} does not match its digest")
    return items


def _reading(load: Callable[[], T]) -> T:
    """`load()`, with the failure of any process a failure of all: they fall back together."""
    result: Any = None
    failure = None
    try:
        result = load()
    except Exception as error:
        failure = _first_line(error)
    if jax.process_count() > 1:
        failed = multihost_utils.process_allgather(np.asarray(failure is not None))
        if failed.any() and failure is None:
            failure = "another process could not read it"
    if failure is not None:
        raise _Damaged(failure)
    loaded: T = result
    return loaded


def _check_shapes(path: epath.Path, saved: Json, target: Any) -> None:
    old = {key: tuple(leaf["shape"]) for key, leaf in saved.items()}
    new = {key: tuple(leaf.shape) for key, leaf in _named_leaves(target).items()}
    for key in sorted(old | new):
        if old.get(key) != new.get(key):
            raise UserError(
                f"{path} does not fit this configuration: {key} is {old.get(key, 'absent')} there, "
                f"{new.get(key, 'absent')} here"
            )


def _items(state: TrainState) -> Json:
    """The array items of a state, concrete or abstract."""
    rest = {"opt_state": state.opt_state, "step": state.step, "skipped": state.skipped}
    return {"params": state.params, "optimizer": rest}


def _manifest(items: Json) -> Json:
    """What a sound checkpoint of `items` holds: a digest of JSON; name -> shape, dtype and digest
    of arrays; and a digest of all that."""
    manifest = {
        name: _text_digest(item) if name in _JSON_ITEMS else _array_manifest(item)
        for name, item in items.items()
    }
    return manifest | {"manifest": _text_digest(manifest)}


def _array_manifest(tree: Any) -> Json:
    leaves = _named_leaves(tree)
    digests = jax.device_get(_array_digests(leaves))
    return {
        key: {"shape": list(x.shape), "dtype": str(x.dtype), "digest": int(digests[key])}
        for key, x in leaves.items()
    }


def _named_leaves(tree: Any) -> dict[str, Any]:
    """Path -> leaf, paths as in `layers/q`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _text_digest(value: Json) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@jax.jit
def _array_digests(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Sum of each array's bits as words, modulo 2^32: any single flipped bit changes it, and how
    the array is spread over a mesh does not."""
    words = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}

    def digest(x: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(x, words[x.dtype.itemsize])
        return bits.astype(jnp.uint32).sum()

    return jax.tree.map(digest, leaves)


def _step_directories(root: epath.Path) -> list[epath.Path]:
    """Directories named by a step, newest first."""
    if not root.is_dir():
        return []
    found = [path for path in root.iterdir() if path.name.isdecimal() and path.is_dir()]
    return sorted(found, key=lambda path: -int(path.name))


def _context() -> Any:
    context = ocp.Context()
    registry = ocp.handlers.local_registry()
    for name in _JSON_ITEMS:
        registry.add(ocp.handlers.JsonHandler, checkpointable_name=name)
    context.checkpointables.registry = registry
    return context


def _local(path: PathLike) -> bool:
    return "://" not in os.fspath(path)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _git_revision() -> str | None:
    """The checkout's commit; None for an installed package."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
