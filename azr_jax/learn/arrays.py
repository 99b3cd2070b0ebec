"""The `params` of a checkpoint, read and written piece by piece: never more than one in memory.

Orbax restores and saves whole trees. Here tensorstore is used on its own, on the same files: what
`ParamsWriter` leaves is a checkpoint of parameters only, as `checkpoint.load_params` reads it, and
`ParamsReader` reads what a run has saved, without its optimiser.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from azr_jax import storage
from azr_jax.learn.checkpoint import CheckpointError
from azr_jax.learn.manifest import FORMAT, Json, text_digest

CHUNK_BYTES = 32 << 20
"""Of a written array, at most: a device reads little beside its own part."""
PIECE_BYTES = 256 << 20
"""What is held at once of an array that is read."""

_PENDING = 2
_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32}
_HANDLERS = "orbax.checkpoint.experimental.v1._src.handlers."

Leaves = Mapping[str, tuple[tuple[int, ...], np.dtype]]
"""Parameter's path, such as `layers/q` -> shape and dtype."""


class DamagedError(CheckpointError):
    """The arrays of a checkpoint cannot be read, or are not what its manifest says."""


class ParamsWriter:
    """Writes a checkpoint of parameters into a local, empty `directory`; `finish` ends it.

    As a context it leaves no write behind, also when it is left early.
    """

    def __init__(self, directory: Path, leaves: Leaves) -> None:
        self._directory, self._leaves = directory, leaves
        self._digests = dict.fromkeys(leaves, 0)
        self._pending: deque[tuple[Any, np.ndarray]] = deque()
        params = directory / "params"
        params.mkdir()
        self._arrays = {
            key: ts.open(_spec(params, key) | _zarr(shape, dtype), create=True).result()
            for key, (shape, dtype) in leaves.items()
        }

    def __enter__(self) -> ParamsWriter:
        return self

    def __exit__(self, *error: object) -> None:
        for future, _ in self._pending:
            future.exception()
        self._pending.clear()

    def write(self, key: str, rows: np.ndarray, first: int = 0) -> None:
        """`rows` of the array from index `first` of its first axis on.

        Raises:
          CheckpointError: they cannot be written.
        """
        _, dtype = self._leaves[key]
        data = np.ascontiguousarray(rows, dtype=dtype)
        self._digests[key] += digest(data)
        target = self._arrays[key][first : first + len(data)]
        self._pending.append((target.write(data), data))
        while len(self._pending) > _PENDING:
            self._wait()

    def finish(self, meta: Json) -> None:
        """Writes the rest: `meta`, the manifest with a digest of every array, and Orbax's marks.

        Raises:
          CheckpointError: they cannot be written.
        """
        while self._pending:
            self._wait()
        meta = meta | {"format": FORMAT, "step": 0}
        arrays = {
            key: {
                "shape": list(shape),
                "dtype": str(dtype),
                "digest": self._digests[key] % 2**32,
            }
            for key, (shape, dtype) in self._leaves.items()
        }
        manifest: Json = {"params": arrays, "meta": text_digest(meta)}
        manifest["manifest"] = text_digest(manifest)
        for name, value in (("meta", meta), ("manifest", manifest)):
            (self._directory / name).mkdir()
            _write_json(self._directory / name / "data.json", value)
        _write_json(self._directory / "params" / "_METADATA", _tree_metadata(self._leaves))
        now = time.time_ns()
        handlers = {"params": "pytree_handler.PyTreeHandler"} | dict.fromkeys(
            ("meta", "manifest"), "json_handler.JsonHandler"
        )
        marks = {
            "item_handlers": {name: _HANDLERS + handler for name, handler in handlers.items()},
            "metrics": {},
            "performance_metrics": {},
            "init_timestamp_nsecs": now,
            "commit_timestamp_nsecs": now,
            "custom_metadata": {},
        }
        _write_json(self._directory / "_CHECKPOINT_METADATA", marks)
        (self._directory / "orbax.checkpoint").touch()
        (self._directory / "commit_success.txt").write_text("written whole\n")

    def _wait(self) -> None:
        future, _ = self._pending.popleft()
        try:
            future.result()
        except Exception as error:
            raise CheckpointError(
                f"could not write {self._directory}: {error}. Check that it is writable and has "
                "free space, then run the same command again"
            ) from error


class ParamsReader:
    """Reads the parameters of one step directory or imported model."""

    def __init__(self, directory: Path) -> None:
        """Opens the manifest; arrays are opened when they are read.

        Raises:
          DamagedError: there is none that can be read.
        """
        self._directory = directory
        self._digests: dict[str, int] = {}
        try:
            manifest = json.loads(storage.read(directory / "manifest" / "data.json") or b"")
            self._known: Json = manifest["params"]
        except (OSError, ValueError, KeyError) as error:
            raise DamagedError(f"{directory}: no readable manifest: {error!r}") from error
        self.leaves: Leaves = {
            key: (tuple(row["shape"]), ts.dtype(row["dtype"]).numpy_dtype)
            for key, row in self._known.items()
        }

    def pieces(self, key: str) -> Iterator[tuple[int, np.ndarray]]:
        """(first index, values) along the first axis, in order.

        Raises:
          DamagedError: the array cannot be read.
          StorageError: the bucket is out of reach.
        """
        try:
            array = ts.open(_spec(self._directory / "params", key), read=True).result()
            yield from self._pieces(key, array)
        except (ValueError, OSError) as error:
            storage.names(self._directory)  # a bucket that is out of reach is not damaged
            raise DamagedError(f"{self._directory}: cannot read {key}: {error}") from error

    def _pieces(self, key: str, array: Any) -> Iterator[tuple[int, np.ndarray]]:
        shape = array.shape
        if (shape, array.dtype.numpy_dtype) != self.leaves[key]:
            raise DamagedError(f"{self._directory}: {key} is not what its manifest says")
        row_bytes = array.dtype.numpy_dtype.itemsize * math.prod(shape[1:])
        rows = max(1, PIECE_BYTES // row_bytes)
        total = 0
        for first in range(0, shape[0], rows):
            values = _read(array, first, min(first + rows, shape[0]))
            total += digest(values)
            yield first, values
        self._digests[key] = total % 2**32

    def verify(self) -> None:
        """Compares the digests of all that was read.

        Raises:
          DamagedError: a bit is not as it was written.
        """
        for key, found in self._digests.items():
            if found != self._known[key]["digest"]:
                raise DamagedError(f"{self._directory}: {key} does not match its digest")


def digest(values: np.ndarray) -> int:
    """Sum of the bits as words; modulo 2^32 it is the manifest's, and pieces of an array add up."""
    words = values.view(_WORDS[values.dtype.itemsize])
    return int(words.sum(dtype=np.uint64))


def _read(array: Any, first: int, stop: int) -> np.ndarray:
    """Rows of an array, in boxes of one chunk where chunks are large: a chunk is decoded whole."""
    shape, chunk = array.shape, array.chunk_layout.read_chunk.shape
    item = array.dtype.numpy_dtype.itemsize
    if math.prod(chunk) * item <= CHUNK_BYTES:
        whole: np.ndarray = array[first:stop].read().result()
        return whole
    values = np.empty((stop - first, *shape[1:]), array.dtype.numpy_dtype)
    counts = [-(-size // step) for size, step in zip(shape[1:], chunk[1:], strict=True)]
    for corner in np.ndindex(*counts):
        box = tuple(slice(i * c, (i + 1) * c) for i, c in zip(corner, chunk[1:], strict=True))
        box = tuple(slice(b.start, min(b.stop, n)) for b, n in zip(box, shape[1:], strict=True))
        values[(slice(None), *box)] = array[(slice(first, stop), *box)].read().result()
    return values


def _spec(params: Path, key: str) -> Json:
    if storage.is_remote(params):
        bucket, _, path = str(params).partition("://")[2].partition("/")
        base = {"driver": "gcs", "bucket": bucket, "path": f"{path}/"}
    else:
        base = {"driver": "file", "path": f"{params.resolve()}/"}
    return {
        "driver": "zarr3",
        "kvstore": {
            "driver": "ocdbt",
            "base": base,
            "path": key.replace("/", ".") + "/",
        },
        # Nothing is read twice.
        "context": {"cache_pool": {"total_bytes_limit": 0}},
    }


def _zarr(shape: tuple[int, ...], dtype: np.dtype) -> Json:
    """Cut along the first axes: a chunk is a part of one layer, or layers that are small."""
    chunk = list(shape)
    for axis in range(len(shape)):
        rest = dtype.itemsize * math.prod(chunk[axis + 1 :])
        chunk[axis] = max(1, min(shape[axis], CHUNK_BYTES // rest))
        if chunk[axis] > 1:
            break
    return {
        "metadata": {
            "shape": list(shape),
            "data_type": str(dtype),
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "zstd", "configuration": {"level": 1}},
            ],
            "fill_value": 0.0,
        },
        "store_data_equal_to_fill_value": True,
    }


def _tree_metadata(leaves: Leaves) -> Json:
    """What Orbax notes of a tree of arrays beside them."""
    tree = {}
    for key, (shape, _) in leaves.items():
        parts = tuple(key.split("/"))
        tree[str(parts)] = {
            "key_metadata": [{"key": part, "key_type": 2} for part in parts],
            "value_metadata": {
                "value_type": "jax.Array",
                "skip_deserialize": False,
                "write_shape": list(shape),
            },
        }
    return {
        "tree_metadata": tree,
        "use_ocdbt": True,
        "use_zarr3": True,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }


def _write_json(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
