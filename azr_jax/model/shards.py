"""Safetensors files, read and written one tensor, or some rows of it, at a time.

A file is eight bytes of header length, a JSON header (name -> dtype, shape, byte range) and raw
little-endian buffers. Files are read, not mapped: pages of a map would count as memory.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from azr_jax.errors import UserError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
ADAPTER = "adapter_config.json"
DTYPES = {
    "F32": np.dtype(np.float32),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
}
SHARD_BYTES = 4 << 30
PIECE_BYTES = 64 << 20
"""What is held at once of a tensor that is read row by row."""

_log = logging.getLogger(__name__)
_LENGTH_BYTES, _MOST_HEADER_BYTES, _ALIGNMENT = 8, 100 << 20, 8


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file; `start` is its first byte. `dtype` is the format's own name."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    def read(self) -> np.ndarray:
        """The whole tensor, in the dtype of the file."""
        return self._rows(0, self.shape[0])

    def pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, rows) in order, some `PIECE_BYTES` at a time."""
        row_bytes = DTYPES[self.dtype].itemsize * math.prod(self.shape[1:])
        step = max(1, PIECE_BYTES // row_bytes)
        for first in range(0, self.shape[0], step):
            yield first, self._rows(first, min(first + step, self.shape[0]))

    def _rows(self, first: int, stop: int) -> np.ndarray:
        dtype = DTYPES[self.dtype]
        row_bytes = dtype.itemsize * math.prod(self.shape[1:])
        buffer = np.empty((stop - first) * row_bytes, np.uint8)
        with self.path.open("rb") as file:
            file.seek(self.start + first * row_bytes)
            if file.readinto(buffer.data) != buffer.nbytes:
                raise UserError(f"{self.path}: damaged or not safetensors: it ends early")
        return buffer.view(dtype).reshape(stop - first, *self.shape[1:])


def read_shards(directory: Path) -> dict[str, Tensor]:
    """Name -> tensor of a folder, of the files that transformers would load: the single file, or
    those of the index; where there is neither, all there are.

    Raises:
      UserError: no file, a shard that is missing or damaged, a name that two files hold, several
        sets of weights, or weights that an adapter changes.
    """
    found: dict[str, Tensor] = {}
    for path in _files(directory):
        for name, tensor in _read_header(path).items():
            if name in found:
                raise UserError(
                    f"{directory}: {name} is in {found[name].path.name} and {path.name}"
                )
            found[name] = tensor
    return found


def _files(directory: Path) -> list[Path]:
    present = sorted(directory.glob("*.safetensors"))
    if (directory / ADAPTER).is_file():
        raise UserError(
            f"{directory}: {ADAPTER} says that these weights are changed by an adapter: merge it "
            "into them, or remove both of its files"
        )
    index = directory / INDEX
    names = _indexed(index) if index.is_file() else []
    if (directory / SINGLE).is_file():
        if names not in ([], [SINGLE]):
            raise UserError(
                f"{directory}: {SINGLE} (which transformers would load) and {INDEX} (which names "
                f"{', '.join(names)}): remove the one that is out of date"
            )
        _say_ignored(directory, SINGLE, [path.name for path in present if path.name != SINGLE])
        return [directory / SINGLE]
    if index.is_file():
        lost = [name for name in names if not (directory / name).is_file()]
        if lost:
            raise UserError(f"{directory}: missing shard: {', '.join(lost)}, which {INDEX} names")
        _say_ignored(directory, INDEX, [path.name for path in present if path.name not in names])
        return [directory / name for name in names]
    pickled = [name for name in PICKLED if (directory / name).is_file()]
    if present and pickled:
        raise UserError(
            f"{directory}: with neither {SINGLE} nor {INDEX}, transformers would load {pickled[0]} "
            f"and not {present[0].name}: remove {pickled[0]}, or save it as safetensors"
        )
    if not present:
        raise UserError(f"{directory}: no *.safetensors file")
    return present


def _indexed(index: Path) -> list[str]:
    """The files that an index names."""
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index}: not an index of safetensors: {error!r}") from error
    if any(Path(str(name)).name != name for name in names):
        raise UserError(f"{index}: it names files outside of its folder")
    return names


def _say_ignored(directory: Path, chosen: str, others: list[str]) -> None:
    if others:
        _log.warning(
            "%s: the weights are those of %s, as transformers has it; not read: %s",
            directory,
            chosen,
            ", ".join(others),
        )


def _read_header(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if not 2 <= length <= min(size - _LENGTH_BYTES, _MOST_HEADER_BYTES):
                raise ValueError("its header is cut off")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        data = _LENGTH_BYTES + length
        return {name: _tensor(path, row, data, size) for name, row in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged or not safetensors: {error}") from error


def _tensor(path: Path, row: dict[str, Any], data: int, size: int) -> Tensor:
    dtype, shape = str(row["dtype"]), tuple(int(n) for n in row["shape"])
    first, stop = (int(n) for n in row["data_offsets"])
    if not 0 <= first <= stop or data + stop > size:
        raise ValueError(f"it ends at byte {size}, its tensors at {data + stop}")
    if dtype in DTYPES and stop - first != DTYPES[dtype].itemsize * math.prod(shape):
        raise ValueError(f"{stop - first} bytes are no {dtype} of shape {shape}")
    return Tensor(path, dtype, shape, data + first)


Layout = Mapping[str, tuple[np.dtype, tuple[int, ...]]]
"""Name -> dtype and shape, in the order of the files."""


class ShardWriter:
    """Writes tensors, whole or by rows and in any order, into files of at most `shard_bytes`."""

    def __init__(self, directory: Path, layout: Layout, shard_bytes: int = SHARD_BYTES) -> None:
        self._layout = layout
        self._places: dict[str, tuple[int, int]] = {}
        self._missing = {name: _bytes(*layout[name]) for name in layout}
        self._files: list[int] = []
        shards = list(_divided(layout, shard_bytes))
        names = [
            SINGLE if len(shards) == 1 else f"model-{i:05}-of-{len(shards):05}.safetensors"
            for i in range(1, len(shards) + 1)
        ]
        for name, shard in zip(names, shards, strict=True):
            self._start(directory / name, shard)
        if len(shards) > 1:
            files = {t: name for name, shard in zip(names, shards, strict=True) for t in shard}
            total = sum(self._missing.values())
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(files.items()))}
            (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n")

    def write(self, name: str, rows: np.ndarray, first: int = 0) -> None:
        """`rows` of the tensor from row `first` on, converted to its dtype."""
        dtype, shape = self._layout[name]
        data = np.ascontiguousarray(rows, dtype=dtype)
        file, start = self._places[name]
        view = data.reshape(-1).view(np.uint8).data
        offset = start + first * dtype.itemsize * math.prod(shape[1:])
        while view:
            written = os.pwrite(file, view, offset)
            view, offset = view[written:], offset + written
        self._missing[name] -= data.nbytes

    def close(self) -> None:
        """Closes the files.

        Raises:
          RuntimeError: a tensor was not written whole.
        """
        self._release(os.fsync)
        torn = [name for name, left in self._missing.items() if left]
        if torn:
            raise RuntimeError(f"not written whole: {', '.join(torn)}")

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self._release()

    def _release(self, *actions: Any) -> None:
        files, self._files = self._files, []
        for file in files:
            for action in actions:
                action(file)
            os.close(file)

    def _start(self, path: Path, names: list[str]) -> None:
        """A file of full length, header written."""
        formats = {dtype: name for name, dtype in DTYPES.items()}
        rows: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        ends = [0]
        for name in names:
            dtype, shape = self._layout[name]
            ends.append(ends[-1] + _bytes(dtype, shape))
            rows[name] = {"dtype": formats[dtype], "shape": shape, "data_offsets": ends[-2:]}
        header = json.dumps(rows, separators=(",", ":")).encode()
        header += b" " * (-len(header) % _ALIGNMENT)
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        self._files.append(file)
        os.write(file, len(header).to_bytes(_LENGTH_BYTES, "little") + header)
        data = _LENGTH_BYTES + len(header)
        os.ftruncate(file, data + ends[-1])
        for name, start in zip(names, ends, strict=False):
            self._places[name] = file, data + start


def _divided(layout: Layout, most: int) -> Iterator[list[str]]:
    """Names of each file; a tensor larger than `most` gets one of its own."""
    shard: list[str] = []
    size = 0
    for name, (dtype, shape) in layout.items():
        if shard and size + _bytes(dtype, shape) > most:
            yield shard
            shard, size = [], 0
        shard.append(name)
        size += _bytes(dtype, shape)
    yield shard


def _bytes(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    return dtype.itemsize * math.prod(shape)
