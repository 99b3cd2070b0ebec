"""Rows on disk: numbered JSONL segments, sealed at each checkpoint.

A bucket has no append, so a sealed segment is never written again. The only exception is resume:
what lies past the restored step is dropped, so that no step is told twice. For the same reason a
bucket has the rows up to the last seal only: what a kill loses is run again.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from azr_jax import storage
from azr_jax.errors import UserError

Row = dict[str, Any]


class SegmentWriter:
    """Appends rows to `folder/00000.jsonl`, `00001.jsonl`, …; each row carries its `step`."""

    def __init__(self, folder: Path, next_step: int = 0) -> None:
        """Keeps the rows of earlier runs up to `next_step`, the first step that will be written."""
        self._folder = folder
        self._file: storage.NewFile | None = None
        _drop_from(folder, next_step)
        segments = _segments(folder)
        self._number = int(segments[-1].stem) + 1 if segments else 0

    def append(self, row: Mapping[str, Any]) -> None:
        """Writes one row, on a local disk before it returns.

        Floats that are not finite become null.
        """
        if "step" not in row:
            raise ValueError("a row needs its step")
        text = json.dumps(_plain(row), ensure_ascii=False, allow_nan=False)
        if self._file is None:
            self._file = storage.create(self._folder / f"{self._number:05d}.jsonl")
        self._file.write(text + "\n")

    def seal(self) -> None:
        """Closes the segment; the next row opens another. Call it with every checkpoint."""
        if self._file is not None:
            self._file.seal()
            self._file = None
            self._number += 1


class NoWriter:
    """In the place of a SegmentWriter where another process writes."""

    def append(self, row: Mapping[str, Any]) -> None:
        """Nothing."""

    def seal(self) -> None:
        """Nothing."""


def read_rows(folder: Path) -> Iterator[Row]:
    """Every row of a folder of segments, in order; a last line torn by a kill is left out.

    Raises:
      UserError: a line is no row.
    """
    for path in _segments(folder):
        yield from _read_segment(path)


def _segments(folder: Path) -> list[Path]:
    paths = (folder / name for name in storage.names(folder))
    return [path for path in paths if path.suffix == ".jsonl" and path.stem.isdigit()]


def _read_segment(path: Path) -> Iterator[Row]:
    for number, line in enumerate(io.BytesIO(storage.read(path) or b""), 1):
        if not line.endswith(b"\n"):
            return
        try:
            row = json.loads(line)
            int(row["step"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise UserError(
                f"{path}:{number} is damaged: restore the file from a copy, or remove the line"
            ) from error
        yield row


def _drop_from(folder: Path, step: int) -> None:
    """Removes rows of `step` and later; a segment is rewritten only where that changes it."""
    for path in _segments(folder):
        rows = list(_read_segment(path))
        kept = [row for row in rows if row["step"] < step]
        if not kept:
            storage.remove(path)
        elif len(kept) < len(rows) or not (storage.read(path) or b"").endswith(b"\n"):
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
            storage.write(path, text)


def _plain(value: Any) -> Any:
    """JSON values only: array scalars become numbers, tuples lists, NaN and infinities null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
