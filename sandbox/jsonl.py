"""JSON lines: every command reads its input here, so that all split and refuse alike."""

from __future__ import annotations

import errno
import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_GZIP, _BOM = b"\x1f\x8b", b"\xef\xbb\xbf"
# What is read may be written again, by an encoder that is called deeper in the stack.
_MAX_DEPTH = 100


class JsonlError(ValueError):
    """A file of JSON lines cannot be read: one line that names the file and the line in it."""


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    r"""Each line with its number, from 1; blank ones too.

    `\n` alone ends a line: U+2028, for one, may stand unescaped in a JSON string, and what Python
    calls a line break may not be one for others. A byte order mark is left out, a gzipped file
    unpacked.

    Raises:
      OSError: the file cannot be read.
    """
    content = path.read_bytes()
    if content.startswith(_GZIP):
        try:
            content = gzip.decompress(content)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise OSError(errno.EINVAL, f"damaged gzip: {error}", str(path)) from error
    found = content.removeprefix(_BOM).split(b"\n")
    if not found[-1]:  # after the last line's end
        found.pop()
    yield from enumerate(found, 1)


def parse(line: bytes, *, text: bool = False) -> dict[str, Any]:
    r"""The object of one line; what is left out can be neither read elsewhere nor written again.

    Args:
      text: strings must be text, that is, without half a surrogate pair, which JSON can write
        (`\ud800`) but no encoding holds.

    Raises:
      ValueError: it is no such object; says why.
    """
    try:
        fields = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError(
            f"cannot read byte 0x{line[error.start]:02x} in column {error.start + 1} as UTF-8"
        ) from error
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    todo: list[tuple[Any, int]] = [(fields, 1)]
    while todo:
        value, depth = todo.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
        if isinstance(value, dict):
            todo += ((item, depth + 1) for pair in value.items() for item in pair)
        elif isinstance(value, list):
            todo += ((item, depth + 1) for item in value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError("NaN, Infinity and numbers beyond all floats are no JSON")
        elif text and isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError as error:
                half = value[error.start].encode("ascii", "backslashreplace").decode()
                raise ValueError(f"half a surrogate pair, {half}, is no text") from error
    return fields


_TOO_DEEP = f"nested deeper than {_MAX_DEPTH} levels"


def read(
    path: Path,
    what: str,
    make: Callable[[dict[str, Any]], T],
    *,
    text: bool = False,
    skip_blank: bool = True,
) -> list[T]:
    """What `make` makes of the object of each line; it may raise ValueError, KeyError, TypeError.

    Args:
      what: "a seed": what a line should be, for the message.
      text: as in `parse`.
      skip_blank: blank lines are left out; else they are refused.

    Raises:
      JsonlError: the file cannot be read, or a line is none of `what`.
    """
    made = []
    try:
        for number, line in lines(path):
            if skip_blank and not line.strip():
                continue
            try:
                made.append(make(parse(line, text=text)))
            except KeyError as error:
                raise JsonlError(f"{path}:{number}: not {what}: it has no {error}") from error
            except (ValueError, TypeError) as error:
                raise JsonlError(f"{path}:{number}: not {what}: {error}") from error
    except FileNotFoundError as error:
        raise JsonlError(f"cannot read {path}: no such file") from error
    except OSError as error:
        raise JsonlError(f"cannot read {path}: {error.strerror}") from error
    return made
