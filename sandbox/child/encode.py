"""Plain Python values as canonical literal text.

The one writer of canonical text, used in the child (for results) and in the parent (for parsed
literals). A plain value is None, bool, int, float, complex, str, bytes, list, tuple, dict, set or
frozenset, by *exact* type all the way down. The text is `repr`, except where `repr` cannot be read
back or depends on the hash seed:

* infinity is ``1e999``, NaN is ``float('nan')``; a complex number with such a part is
  ``complex(re, im)``;
* set elements are sorted by their own canonical text; dicts keep their order.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

# Bound in this module before any program runs, so that one which overwrites ``builtins.repr`` does
# not by accident change what its own result says.
globals().update({k: v for k, v in vars(builtins).items() if not k.startswith("_")})

MAX_DIGITS = 4300
"""Decimal digits of an integer: CPython's own default limit for int <-> str."""


# By identity: a metaclass may lie about equality.
_SCALARS = frozenset(map(id, (int, bool, str, bytes, type(None))))
_CONTAINERS = frozenset(map(id, (list, tuple, dict, set, frozenset)))


class Unsupported(Exception):
    """The value is not plain, or over a cap."""


def make_encoder(max_chars: int, max_depth: int, allow_nan: bool) -> Callable[[object], str]:
    """A function from value to canonical text, raising `Unsupported`.

    `max_chars` bounds the text and the work: shared structure counts each time it is met.
    """
    left = max_chars
    texts: dict[tuple[int, int], str] = {}

    def spend(text: str) -> str:
        nonlocal left
        left -= len(text)
        if left < 0:
            raise Unsupported(f"result over {max_chars} characters")
        return text

    def real(x: float) -> str:
        text = repr(x)
        if text[-1] == "f":
            return "1e999" if x > 0 else "-1e999"
        if text == "nan":
            if not allow_nan:
                raise Unsupported("NaN in a result that has to be compared")
            return "float('nan')"
        return text

    def items(values: Any, depth: int) -> list[str]:
        return [encode(v, depth) for v in values]

    def encode(value: Any, depth: int) -> str:
        kind = type(value)
        if id(kind) in _SCALARS:
            if (kind is str or kind is bytes) and len(value) > left:
                raise Unsupported(f"result over {max_chars} characters")
            return spend(repr(value))
        if kind is float:
            return spend(real(value))
        if kind is complex:
            re, im = real(value.real), real(value.imag)
            finite = not ("e999" in re or "e999" in im or "nan" in re or "nan" in im)
            return spend(repr(value) if finite else f"complex({re}, {im})")
        if id(kind) not in _CONTAINERS:
            raise Unsupported(f"not a plain value: {kind.__name__}")
        # Shared structure is written once and counted each time: 60 lists may have 2**60 nodes.
        where = id(value), depth
        text = texts.get(where)
        if text is not None:
            return spend(text)
        text = texts[where] = container(value, kind, depth)
        return text

    def container(value: Any, kind: type, depth: int) -> str:
        if depth == 0:
            raise Unsupported(f"nested deeper than {max_depth}")
        count = len(value)
        if count > left:
            raise Unsupported(f"result over {max_chars} characters")
        if kind is list or kind is tuple:
            if set(map(id, map(type, value))) <= _SCALARS:
                if sum([len(v) for v in value if type(v) is str or type(v) is bytes]) > left:
                    raise Unsupported(f"result over {max_chars} characters")
                return spend(repr(value))
            spend("[]" + ", " * (count - 1))
            inner = ", ".join(items(value, depth - 1))
            if kind is list:
                return f"[{inner}]"
            return f"({inner},)" if count == 1 else f"({inner})"
        if kind is dict:
            spend("{}" + ", : " * count)
            return (
                "{"
                + ", ".join(
                    [f"{encode(k, depth - 1)}: {encode(v, depth - 1)}" for k, v in value.items()]
                )
                + "}"
            )
        spend("set()" + ", " * count)
        inner = ", ".join(sorted(items(value, depth - 1)))
        if kind is frozenset:
            return f"frozenset({{{inner}}})" if inner else "frozenset()"
        return f"{{{inner}}}" if inner else "set()"

    def encode_value(value: object) -> str:
        nonlocal left
        left = max_chars
        texts.clear()
        try:
            return encode(value, max_depth)
        except ValueError as error:  # only int -> str beyond the digit limit raises this
            raise Unsupported(f"integer over {MAX_DIGITS} digits") from error

    return encode_value
