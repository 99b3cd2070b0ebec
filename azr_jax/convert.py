"""`azr import` and `azr export`: Hugging Face folders in and out, one tensor at a time.

Both write beside the folder that was asked for and rename at the end, so that it is whole or not
there. Everything that can be refused is, before a weight is read.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from azr_jax.errors import UserError
from azr_jax.learn import checkpoint
from azr_jax.learn.arrays import DamagedError, ParamsReader, ParamsWriter
from azr_jax.model import folder, hf, hf_config
from azr_jax.model.config import ModelConfig
from azr_jax.model.hf import Slot
from azr_jax.model.shards import DTYPES, SHARD_BYTES, ShardWriter
from azr_jax.model.tokenizer import Tokenizer
from azr_jax.policy import (
    is_hugging_face,
    kept_files,
    load_fitting_tokenizer,
    read_origin,
    resolve,
)
from azr_jax.report.card import count, model_card

EXPORT_DTYPES = {"bf16": "BF16", "f32": "F32"}
"""Values of --dtype beside `same` -> dtypes of safetensors."""

_PARTIAL = ".partial"
_CARD = "README.md"
_log = logging.getLogger(__name__)

Layout = dict[str, tuple[np.dtype, tuple[int, ...]]]
Pieces = Iterator[tuple[str, int, np.ndarray]]
"""(name in the folder, first row, rows)"""


def import_command(source: Path, out: Path) -> None:
    """`azr import`: prints a line that says what was imported."""
    with _one_line_failure():
        print(import_model(source, out))


def export_command(name: str, out: Path, dtype: str) -> None:
    """`azr export`: prints a line that says what was exported."""
    with _one_line_failure():
        print(export_model(name, out, dtype))


def import_model(source: Path, out: Path) -> str:
    """Writes an imported model, in the dtype of the folder; returns a line that says what it is.

    Raises:
      UserError: `source` is no folder of a model that is supported, or is not whole; `out` is there
        already.
      CheckpointError: it cannot be written.
    """
    if not source.is_dir():
        raise UserError(f"{source}: no such directory")
    _require_new(out)
    config = hf.read_config(source)
    tensors = hf.open_weights(source, config)
    tokenizer = load_fitting_tokenizer(source, config)
    dtypes = hf.dtypes_of(tensors, config)
    origin = folder.read_origin(source, {key: str(dtype) for key, dtype in dtypes.items()})
    table = hf.slots(config)
    leaves = {
        slot.key: ((config.layers,) * (slot.layer is not None) + slot.ours, dtypes[slot.key])
        for slot in table.values()
    }
    with _whole(out) as partial, ParamsWriter(partial, leaves) as writer:
        for name, slot in table.items():
            if slot.layer is None:
                for first, rows in tensors[name].pieces():
                    writer.write(slot.key, rows, first)
            else:
                writer.write(slot.key, slot.to_ours(tensors[name].read())[None], slot.layer)
        folder.copy_files(source, partial)
        _write_json(partial / folder.ORIGIN_FILE, origin.to_json())
        meta = checkpoint.describe(config, gin_config="", sandbox_level="none")
        writer.finish(meta | {"source": origin.to_json()})
    size = count(config.parameter_count())
    said = f"{out}: {origin.name}, {size} parameters, {_kinds(dtypes)}, {_licence(origin)}"
    if folder.has_untrained_think(source):
        said += (
            f"; {' and '.join(folder.THINK_TOKENS)} are read and written as text: a Qwen3 base "
            f"model has not learnt the tokens ({tokenizer.vocab_size} ids are left)"
        )
    return said


def export_model(name: str, out: Path, dtype: str = "same", shard_bytes: int = SHARD_BYTES) -> str:
    """Writes a Hugging Face folder; returns a line that says what it is.

    `name` is a checkpoint as `azr eval` takes it. `dtype` "same" is that of the model that was
    imported, also after training.

    Raises:
      UserError: there is no such checkpoint, or `out` is there already.
      CheckpointError: all that is there is damaged, or it cannot be written.
    """
    source = resolve(name)
    _require_new(out)
    if is_hugging_face(source):
        meta: dict[str, Any] = {"model": hf.read_config(source).to_json()}
        return _export(source, source, meta, out, dtype, shard_bytes)
    kept = kept_files(source)
    damaged = []
    for path in checkpoint.find(source):
        try:
            meta = checkpoint.load_meta(path)
            return _export(path, kept, meta, out, dtype, shard_bytes)
        except checkpoint.CheckpointError as error:
            damaged.append(str(error))
            _log.warning("checkpoint %s is damaged (%s); trying an older one", path, error)
    raise checkpoint.CheckpointError("; ".join(damaged))


def _export(
    source: Path, kept: Path, meta: dict[str, Any], out: Path, dtype: str, shard_bytes: int
) -> str:
    """The folder of one step directory, imported model or Hugging Face folder."""
    config = ModelConfig.from_json(meta["model"])
    tokenizer = load_fitting_tokenizer(kept, config)
    table = hf.slots(config)
    if is_hugging_face(source):
        tensors = hf.open_weights(source, config)
        stored: Mapping[str, np.dtype] = hf.dtypes_of(tensors, config)
        origin = folder.read_origin(source, {})
        pieces: Pieces = ((n, first, rows) for n in table for first, rows in tensors[n].pieces())
        verify = None
    else:
        reader = ParamsReader(source)
        stored = {key: kind for key, (_, kind) in reader.leaves.items()}
        origin = read_origin(source)
        stored = {key: _dtype(origin.dtypes.get(key), kind) for key, kind in stored.items()}
        pieces, verify = _slices(reader, table), reader.verify
    if dtype != "same":
        stored = dict.fromkeys(stored, DTYPES[EXPORT_DTYPES[dtype]])
    layout: Layout = {name: (stored[slot.key], slot.shape) for name, slot in table.items()}
    row = _config_row(kept, config, tokenizer, _kinds(stored))
    with _whole(out) as partial:
        with ShardWriter(partial, layout, shard_bytes) as writer:
            for tensor, first, rows in pieces:
                writer.write(tensor, rows, first)
        if verify is not None:
            verify()
        folder.copy_files(kept, partial)
        if row is not None:
            _write_json(partial / "config.json", row)
        if not (partial / "generation_config.json").is_file():
            _write_generation_config(partial, tokenizer)
        card = model_card(
            out.name,
            base=origin.name,
            licence=origin.licence,
            parameters=config.parameter_count(),
            dtype=_kinds(stored),
            meta=meta,
        )
        (partial / _CARD).write_text(card, encoding="utf-8")
    return f"{out}: {origin.name}, step {meta.get('step', 0)}, {_kinds(stored)}, {_licence(origin)}"


def _slices(reader: ParamsReader, table: Mapping[str, Slot]) -> Pieces:
    """All tensors of a checkpoint, each array read once."""
    names: dict[str, list[str]] = {}
    for name, slot in table.items():
        names.setdefault(slot.key, []).append(name)
    if names.keys() != reader.leaves.keys():
        raise DamagedError(f"its arrays are {sorted(reader.leaves)}, not {sorted(names)}")
    for key, owners in names.items():
        for first, rows in reader.pieces(key):
            if table[owners[0]].layer is None:
                yield owners[0], first, rows
            else:
                for offset, weight in enumerate(rows):
                    name = owners[first + offset]
                    yield name, 0, table[name].to_theirs(weight)


def _config_row(
    kept: Path, config: ModelConfig, tokenizer: Tokenizer, dtype: str
) -> dict[str, Any] | None:
    """config.json as it should be; None where the kept one says all of it already."""
    if (kept / "config.json").is_file() and _same_shape(hf.read_config(kept), config):
        old = hf_config.read_row(kept / "config.json")
        key = "torch_dtype" if "torch_dtype" in old else "dtype"
        return None if old.get(key) == dtype else old | {key: dtype}
    return hf_config.config_row(
        config, dtype=dtype, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id
    )


def _same_shape(a: ModelConfig, b: ModelConfig) -> bool:
    """Equal but for how the model is computed."""
    computed = ("dtype", "remat", "unroll")
    pairs = [(k, v) for k, v in a.to_json().items() if k not in computed]
    return all(b.to_json()[key] == value for key, value in pairs)


def _write_generation_config(out: Path, tokenizer: Tokenizer) -> None:
    ids = tokenizer.eos_ids
    row = {"eos_token_id": list(ids) if len(ids) > 1 else ids[0], "pad_token_id": tokenizer.pad_id}
    _write_json(out / "generation_config.json", row)


def _require_new(out: Path) -> None:
    """Whether the folder can be written is known before it is worked for."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} is not empty: name a new directory")
    parent = out.absolute().parent
    if not parent.is_dir():
        raise UserError(f"cannot write {out}: {parent} does not exist")


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder that takes the name `out` when all went well, and is removed when not."""
    out = out.absolute()
    partial = out.with_name(out.name + _PARTIAL)
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        partial.mkdir()
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error
    try:
        yield partial
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _one_line_failure() -> Iterator[None]:
    try:
        yield
    except checkpoint.CheckpointError as error:  # a full disk, say: the message tells what to do
        raise SystemExit(f"azr: {' '.join(str(error).split())}") from error


def _dtype(name: str | None, default: np.dtype) -> np.dtype:
    return next((dtype for dtype in DTYPES.values() if str(dtype) == name), default)


def _kinds(dtypes: Mapping[str, np.dtype]) -> str:
    """The dtype of most of a model: that of its matrices."""
    return str(dtypes["embedding"])


def _licence(origin: folder.Origin) -> str:
    return f"licence {origin.licence or 'not known'}"


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
