"""Model text as data: a bounded, non-recursive parser of Python literals.

Accepts what the canonical writer (`sandbox.child.encode`) emits and what people write for it:
numbers, strings, bytes, None, True, False, lists, tuples, dicts, sets, ``set()``,
``frozenset(...)``, ``float('nan')``, ``float('inf')``, ``inf``, ``nan``, ``complex(re, im)``.
No names, calls, operators, f-strings, comments or starred items; nothing is ever evaluated.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

from sandbox.child.encode import MAX_DIGITS, Unsupported, make_encoder

MAX_CHARS = 65536
MAX_DEPTH = 64


class LiteralError(ValueError):
    """The text is not literal data."""


class LiteralTooBig(LiteralError):
    """The text is, or may be, literal data over a cap of size, depth or digits."""


_DIGITS = r"[0-9](?:_?[0-9])*"
_DECIMAL = rf"(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?"
_TOKEN = re.compile(
    rf"""[ \t\r\n\f]*(?:
      (?P<based>0[xX](?:_?[0-9a-fA-F])+ | 0[oO](?:_?[0-7])+ | 0[bB](?:_?[01])+)
    | (?P<number>{_DECIMAL}) (?P<j>[jJ]?)
    | (?P<prefix>[bBuU]?[rR]?|[rR][bB]) (?: '''(?P<s1>[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*)'''
        | \"\"\"(?P<s2>[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*)\"\"\"
        | '(?P<s3>[^'\\\r\n]*(?:\\.[^'\\\r\n]*)*)'
        | "(?P<s4>[^"\\\r\n]*(?:\\.[^"\\\r\n]*)*)" )
    | (?P<name>[A-Za-z_]+)
    | (?P<mark>[\[\](){{}},:+\-])
    | (?P<end>\Z) )""",
    re.VERBOSE | re.DOTALL,
)
_IMAGINARY = re.compile(rf"[ \t]*(?P<sign>[+-])[ \t]*(?P<number>{_DECIMAL})[jJ]")
_AFTER_NUMBER = re.compile(r"[0-9A-Za-z_.]")
_ESCAPE = re.compile(
    r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})"
    r"|N\{([A-Za-z0-9 \-]{1,100})\}|(\r\n|.))",
    re.DOTALL,
)
_SIMPLE_ESCAPES = {
    "\\": "\\", "'": "'", '"': '"', "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r",
    "t": "\t", "v": "\v", "\n": "", "\r": "", "\r\n": "",
}  # fmt: skip
_INT = r"(?:0|-?[1-9][0-9]{0,17})"
_TEXT = r"'[ !#-&(-\[\]-~]*'"
_PLAIN = rf"(?:{_INT}|True|False|None|{_TEXT})"
_FLAT = rf"(?:{_PLAIN}|\[(?:{_PLAIN}(?:, {_PLAIN})*)?\])"
_CANONICAL = re.compile(rf"{_PLAIN}|\[(?:{_FLAT}(?:, {_FLAT})*)?\]|\({_FLAT}(?:, {_FLAT})+\)")
_CANONICAL_ARGUMENTS = re.compile(rf"{_FLAT}(?:, {_FLAT})*")
_CANONICAL_DICT = re.compile(
    rf"\{{(?:{_TEXT}: {_FLAT}(?:, {_TEXT}: {_FLAT})*|{_INT}: {_FLAT}(?:, {_INT}: {_FLAT})*)\}}"
)
_KEY = re.compile(rf"({_TEXT}|{_INT}): {_FLAT}")
_PART = re.compile(
    r"\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z)"
    r"|\"(?:\\.|[^\"\\\n])*\"?|'(?:\\.|[^'\\\n])*'?|[()\[\]{},]",
    re.DOTALL,
)
_KEYWORD = re.compile(r"\s*([^\W\d]\w*)\s*=")
_FAST_CHARS = 4096
_FAST_DEPTH = 2
_CONSTANTS: dict[str, Any] = {
    "None": None, "True": True, "False": False, "inf": float("inf"), "nan": float("nan"),
}  # fmt: skip
_CALLS = ("set", "frozenset", "float", "complex")
_CLOSERS = {"(": ")", "[": "]", "{": "}"}


class _Frame:
    """An open bracket: what it is, its items so far, and what may come next."""

    __slots__ = ("call", "comma", "items", "keys", "opener", "pending")

    def __init__(self, opener: str, call: str = "") -> None:
        self.opener = opener
        self.call = call
        self.items: list[Any] = []
        self.keys: list[Any] | None = None  # of a dict
        self.pending = False  # a key waits for its value
        self.comma = False


def parse_value(text: str, max_chars: int = MAX_CHARS, max_depth: int = MAX_DEPTH) -> str:
    """Canonical text of one literal; raises LiteralError."""
    if _is_short(text, max_chars, max_depth):
        if text[:1] == "{":
            if _CANONICAL_DICT.fullmatch(text):
                keys = _KEY.findall(text)
                if len(set(keys)) == len(keys):
                    return text
        elif _CANONICAL.fullmatch(text):
            return text
    return to_text(value_of(text, max_chars, max_depth), max_chars, max_depth)


def parse_arguments(text: str, max_chars: int = MAX_CHARS, max_depth: int = MAX_DEPTH) -> str:
    """Canonical text of a comma-separated list of literals ("" for none); raises LiteralError."""
    if _is_short(text, max_chars, max_depth) and _CANONICAL_ARGUMENTS.fullmatch(text):
        return text
    return _parse_arguments(text, max_chars, max_depth)


def parse_call(text: str, max_chars: int = MAX_CHARS, max_depth: int = MAX_DEPTH) -> str:
    """As `parse_arguments`; arguments may be named, as in ``1, b=[2]``; raises LiteralError."""
    if "=" not in text or len(text) > max_chars:
        return parse_arguments(text, max_chars, max_depth)
    parts = []
    for part in _arguments(text):
        keyword = _KEYWORD.match(part)
        value = parse_value(part[keyword.end() :] if keyword else part, max_chars, max_depth)
        parts.append(f"{keyword[1]}={value}" if keyword else value)
    return ", ".join(parts)


def _arguments(text: str) -> list[str]:
    """The text between commas that stand in no bracket and no string; the last may be missing."""
    parts, start, depth = [], 0, 0
    for found in _PART.finditer(text):
        if found[0] in "([{":
            depth += 1
        elif found[0] in ")]}":
            depth -= 1
        elif found[0] == "," and not depth:
            parts.append(text[start : found.start()])
            start = found.end()
    if text[start:].strip() or not parts:
        parts.append(text[start:])
    return parts


def _is_short(text: str, max_chars: int, max_depth: int) -> bool:
    return len(text) <= min(_FAST_CHARS, max_chars) and max_depth >= _FAST_DEPTH


@lru_cache(maxsize=4096)
def _parse_arguments(text: str, max_chars: int, max_depth: int) -> str:
    values = arguments_of(text, max_chars, max_depth)
    return ", ".join([to_text(v, max_chars, max_depth) for v in values])


def equal(a: str, b: str) -> bool:
    """Python's ``==`` on two literal texts: 1 == 1.0 == True, dicts and sets unordered.

    Raises LiteralError where either is not literal data. NaN equals nothing.
    """
    left, right = value_of(a), value_of(b)
    try:
        return bool(left == right)
    except RecursionError as error:
        raise LiteralTooBig("too deep to compare") from error


def to_text(value: object, max_chars: int = MAX_CHARS, max_depth: int = MAX_DEPTH) -> str:
    """Canonical literal text of a plain value; raises LiteralTooBig or LiteralError."""
    try:
        # The text grows by at most a small factor in canonical form (1e9 -> 1000000000.0).
        return make_encoder(4 * max_chars + 64, max_depth, True)(value)
    except Unsupported as error:
        raise LiteralTooBig(str(error)) from error


def value_of(text: str, max_chars: int = MAX_CHARS, max_depth: int = MAX_DEPTH) -> Any:
    """The value of one literal; raises LiteralError."""
    values = _parse(text, max_chars, max_depth)
    if len(values.items) != 1 or values.comma:
        if not values.items:
            raise LiteralError("nothing there")
        return tuple(values.items)
    return values.items[0]


def arguments_of(
    text: str, max_chars: int = MAX_CHARS, max_depth: int = MAX_DEPTH
) -> tuple[Any, ...]:
    """The values of a comma-separated list of literals; raises LiteralError."""
    return tuple(_parse(text, max_chars, max_depth).items)


def _parse(text: str, max_chars: int, max_depth: int) -> _Frame:
    if len(text) > max_chars:
        raise LiteralTooBig(f"over {max_chars} characters")
    top = _Frame("")
    stack = [top]
    frame = top
    match = _TOKEN.match
    position = 0
    want = True  # a value may come next (else only a comma, colon or closer)
    while True:
        token = match(text, position)
        if token is None:
            raise LiteralError(f"not a literal at character {position}")
        position = token.end()
        kind = token.lastgroup
        if kind == "end":
            if len(stack) > 1 or (want and frame.comma and not frame.items):
                raise LiteralError("unfinished literal")
            return top
        mark = token["mark"]
        if mark is not None and mark not in "+-":
            if mark in "([{":
                if not want:
                    raise LiteralError("a comma is missing")
                if len(stack) > max_depth:
                    raise LiteralTooBig(f"nested deeper than {max_depth}")
                frame = _Frame(mark)
                stack.append(frame)
                continue
            if mark == ",":
                if want or frame.pending or frame.call in ("set", "frozenset", "float"):
                    raise LiteralError("a value is missing before a comma")
                if frame.opener == "{" and frame.keys and len(frame.keys) != len(frame.items):
                    raise LiteralError("a dict and a set at once")
                frame.comma = want = True
                continue
            if mark == ":":
                if want or frame.opener != "{" or frame.pending:
                    raise LiteralError("a colon is out of place")
                if frame.keys is None:
                    if len(frame.items) != 1:
                        raise LiteralError("a dict and a set at once")
                    frame.keys = []
                frame.keys.append(frame.items.pop())
                if len(frame.keys) != len(frame.items) + 1:
                    raise LiteralError("a dict and a set at once")
                frame.pending = want = True
                continue
            if not frame.opener or _CLOSERS[frame.opener] != mark or frame.pending:
                raise LiteralError("brackets do not match")
            if want and frame.items and not frame.comma:
                raise LiteralError("brackets do not match")
            if frame.keys is not None and len(frame.keys) != len(frame.items):
                raise LiteralError("a dict and a set at once")
            value = _close(frame)
            stack.pop()
            frame = stack[-1]
            frame.items.append(value)
            frame.pending = want = False
            continue
        if not want:
            raise LiteralError("two values without a comma")
        sign = ""
        if mark is not None:
            sign = mark
            token = match(text, position)
            if token is None:
                raise LiteralError("a sign without a number")
            position = token.end()
        number = token["number"]
        if number is not None:
            value, position = _number(text, position, sign, number, bool(token["j"]))
        elif token["based"] is not None:
            value = _integer(token["based"], 0)
            value = -value if sign == "-" else value
            if _AFTER_NUMBER.match(text, position):
                raise LiteralError("not a number")
        elif token["name"] is not None:
            name = token["name"]
            if name in _CALLS and not sign:
                token = match(text, position)
                if token is None or token["mark"] != "(":
                    raise LiteralError(f"{name} without its argument")
                if len(stack) > max_depth:
                    raise LiteralTooBig(f"nested deeper than {max_depth}")
                position = token.end()
                frame = _Frame("(", name)
                stack.append(frame)
                continue
            if name not in _CONSTANTS or (sign and name not in ("inf", "nan")):
                raise LiteralError(f"{name[:40]!r} is not a literal")
            value = -_CONSTANTS[name] if sign == "-" else _CONSTANTS[name]
        elif token["prefix"] is not None and not sign:
            value = _string(token)
        else:
            raise LiteralError("a sign without a number")
        frame.items.append(value)
        frame.pending = want = False


def _close(frame: _Frame) -> Any:
    """The value of a finished bracket."""
    items = frame.items
    if frame.call:
        return _call(frame.call, items)
    if frame.opener == "[":
        return items
    if frame.opener == "(":
        return items[0] if len(items) == 1 and not frame.comma else tuple(items)
    try:
        if frame.keys is not None:
            return dict(zip(frame.keys, items, strict=True))
        return set(items) if items else {}
    except TypeError as error:
        raise LiteralError(str(error)) from error


def _call(name: str, items: list[Any]) -> Any:
    """The few calls that are canonical text of a value."""
    if name == "complex":
        if len(items) == 2 and all(type(v) in (int, float) for v in items):
            return complex(_float(items[0]), _float(items[1]))
    elif not items:
        if name != "float":
            return set() if name == "set" else frozenset()
    elif len(items) == 1:
        (value,) = items
        if name == "float":
            if type(value) is str and value.lower() in ("nan", "inf", "-inf", "infinity"):
                return float(value)
        elif type(value) in (list, tuple, set, frozenset):
            try:
                return set(value) if name == "set" else frozenset(value)
            except TypeError as error:
                raise LiteralError(str(error)) from error
    raise LiteralError(f"{name}(...) of that is not a literal")


def _number(text: str, at: int, sign: str, digits: str, imaginary: bool) -> tuple[Any, int]:
    """A decimal number, or the two halves of a complex one; and where it ends."""
    if _AFTER_NUMBER.match(text, at):
        raise LiteralError("not a number")
    if imaginary:
        return complex(0.0, float(sign + digits)), at
    other = _IMAGINARY.match(text, at)
    if other is not None:
        end = other.end()
        if _AFTER_NUMBER.match(text, end):
            raise LiteralError("not a number")
        return complex(float(sign + digits), float(other["sign"] + other["number"])), end
    if "." in digits or "e" in digits or "E" in digits:
        return float(sign + digits), at
    if digits[0] == "0" and digits.strip("0_"):
        raise LiteralError("leading zeros")
    return _integer(sign + digits, 10), at


def _integer(digits: str, base: int) -> int:
    if len(digits) > MAX_DIGITS + 1:
        raise LiteralTooBig(f"integer over {MAX_DIGITS} digits")
    try:
        return int(digits, base)
    except ValueError as error:
        raise LiteralTooBig(str(error)) from error


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise LiteralError(str(error)) from error


def _string(token: re.Match[str]) -> str | bytes:
    prefix = token["prefix"].lower()
    body = next(b for b in (token["s1"], token["s2"], token["s3"], token["s4"]) if b is not None)
    if prefix == "ur":
        raise LiteralError("no such string prefix")
    if "b" in prefix:
        if not body.isascii():
            raise LiteralError("bytes hold ASCII only")
        if "\\" in body and "r" not in prefix:
            body = _ESCAPE.sub(_bytes_escape, body)
        return body.encode("latin-1")
    if "\\" in body and "r" not in prefix:
        body = _ESCAPE.sub(_text_escape, body)
    return body


def _text_escape(match: re.Match[str]) -> str:
    octal, two, four, eight, name, other = match.groups()
    if octal is not None:
        return chr(int(octal, 8))
    code = two or four or eight
    if code is not None:
        if int(code, 16) > 0x10FFFF:
            raise LiteralError("no such character")
        return chr(int(code, 16))
    if name is not None:
        try:
            return unicodedata.lookup(name)
        except KeyError as error:
            raise LiteralError("no such character name") from error
    if other in ("x", "u", "U", "N"):
        raise LiteralError("broken escape")
    return _SIMPLE_ESCAPES.get(other, "\\" + other)


def _bytes_escape(match: re.Match[str]) -> str:
    octal, two, _, _, _, other = match.groups()
    if octal is not None:
        return chr(int(octal, 8) & 0xFF)
    if two is not None:
        return chr(int(two, 16))
    if other is None:
        return match[0]
    if other == "x":
        raise LiteralError("broken escape")
    return _SIMPLE_ESCAPES.get(other, "\\" + other)
