"""Text and bytes that nobody would write, for the two parsers in the trainer's own process."""

import ast
import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import Limits, Status
from sandbox.child.encode import Unsupported, make_encoder
from sandbox.child.harness import END, HEADER, OK, OOM, RAISED
from sandbox.literals import (
    LiteralError,
    equal,
    parse_arguments,
    parse_value,
    to_text,
    value_of,
)
from sandbox.wire import ProtocolError, max_stream_bytes, read_records
from tests.sandbox.test_literals import plain, same

LIMITS = Limits(output_bytes=400, depth=10)
_PIECES = (
    "[", "]", "(", ")", "{", "}", ",", ":", "'", '"', "'''", "\\", "\\x", "\\N{", "\n", "\r", "\t",
    "\f", "\0", "\v", "#", "+", "-", "j", "e", "E", "_", ".", "0", "9" * 20, "0x", "0b2", "1e999",
    "b'", "rb'", "f'", "u'", "set()", "set(", "frozenset({", "float('", "complex(", "inf", "nan",
    "None", "True", "lambda:", "*", "**", "...", "and", " if 1 else ", "\ud800", "\ufeff", "é",
    "１", "ｉnf", "[" * 80, "{1:" * 80, "(" * 5000, "-" * 300,
)  # fmt: skip


_TEXTS = (
    "1", "-0.0", "[1, 2.5, 'a']", "{'k': (1,), 2: None}", "{1, 2}", "set()", "frozenset({1})",
    "b'\\x00a'", "'\\n\\u00e9'", "(1+2j)", "complex(1e999, -0.0)", "[[[[]]]]", "'''a\nb'''",
    "r'\\d'", "0x1F", "1_000", "True, False", "1e-5", "{(): {}}", "'\"'", "\"'\"", "float('nan')",
)  # fmt: skip


def mutated(rng: random.Random) -> str:
    """A literal with pieces inserted, removed, doubled and replaced."""
    text = rng.choice(_TEXTS)
    for _ in range(rng.randint(1, 5)):
        at, end = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        head, middle, tail = text[:at], text[at:end], text[end:]
        match rng.randint(0, 4):
            case 0:
                text = head + rng.choice(_PIECES) + middle + tail
            case 1:
                text = head + tail
            case 2:
                text = head + middle + middle + tail
            case 3:
                text = head + rng.choice(_TEXTS) + tail
            case _:
                text = head + chr(rng.choice((rng.randrange(128), rng.randrange(0x110000)))) + tail
    return text


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_mutated_literals(seed):
    """Nothing but LiteralError; what both read, both read alike."""
    rng = random.Random(seed)
    agreed = 0
    for _ in range(600):
        text = mutated(rng)
        for parse in (parse_arguments, lambda text: parse_value(text, 50, 3)):
            with contextlib.suppress(LiteralError):
                parse(text)
        try:
            value = value_of(text)
            assert parse_value(text) == to_text(value)
            expected = ast.literal_eval(text.strip(" \t\r\n\f"))
        except (LiteralError, ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        assert same(value, expected) or value == expected, text
        agreed += 1
    assert agreed > 20


@pytest.mark.parametrize("count", [65, 1000, 100_000])
@pytest.mark.parametrize(
    "opener", ["[", "(", "{", "{1:", "[[],", "set(", "frozenset({", "-", "+", "b'", "'", "1,", "\\",
               "((1,", "complex(", "'\\", "{(", " ", "\n", "0", "1_", "1e", "set([", "'''", "\"'"]
)  # fmt: skip
def test_deep_texts(opener, count):
    """Neither the stack nor the clock gives way: megabytes are refused by their length."""
    for text in (opener * count, "[" + opener * count + "]", opener * count + "1" + ")]}" * count):
        for parse in (parse_value, parse_arguments):
            with contextlib.suppress(LiteralError):
                parse(text)
        with contextlib.suppress(LiteralError):
            equal(text, "1")


@settings(max_examples=50)
@given(plain, st.integers(1, 2000), st.integers(0, 12))
def test_encoder_keeps_its_caps(value, chars, depth):
    """Text that can be read back, or Unsupported; never more than the cap by a bracket's worth."""
    try:
        text = make_encoder(chars, depth, True)(value)
    except Unsupported:
        return
    assert len(text) <= chars + 16
    assert same(value_of(text), value)


def record(kind: int, text: bytes, shown: bytes = b"") -> bytes:
    return HEADER.pack(kind, len(shown), len(text)) + shown + text


@settings(max_examples=40)
@given(st.lists(st.tuples(plain, plain), min_size=1, max_size=2))
def test_records_round_trip(pairs):
    limits = Limits()
    stream = b""
    for value, argument in pairs:
        stream += record(
            OK, to_text(value).encode("utf-8", "backslashreplace"),
            to_text(argument).encode("utf-8", "backslashreplace"),
        )  # fmt: skip
    assert len(stream) + 1 <= max_stream_bytes(len(pairs), limits)
    records, complete = read_records(stream + END, len(pairs), limits)
    assert complete and [r.status for r in records] == [Status.OK] * len(pairs)
    for (value, argument), got in zip(pairs, records, strict=True):
        assert same(value_of(got.text), value)
        assert got.shown is not None and same(value_of(got.shown), argument)


def honest_stream(rng: random.Random) -> tuple[bytes, int]:
    texts = [b"1", b"[1, 'a']", b"{1: {2, 3}}", b"'" + b"x" * 300 + b"'", b"None", b"", b"1e999"]
    count = rng.randint(1, 4)
    kinds = [rng.choice((OK, OK, OK, RAISED, OOM)) for _ in range(count)]
    parts = [record(k, rng.choice(texts), rng.choice((b"", b"1, 2", b" ", b"()"))) for k in kinds]
    return b"".join(parts) + END, count


@pytest.mark.parametrize("seed", range(20))
def test_mutated_streams(seed):
    """Only ProtocolError; and what is let through is canonical and within the caps."""
    rng = random.Random(seed)
    for _ in range(400):
        stream, expected = honest_stream(rng)
        data = bytearray(stream)
        for _ in range(rng.randint(0, 4)):
            at = rng.randrange(len(data) + 1)
            match rng.randint(0, 4):
                case 0:
                    data[at:at] = rng.randbytes(rng.randint(1, 12))
                case 1:
                    del data[at : at + rng.randint(1, 20)]
                case 2:
                    data[at : at + 1] = bytes([rng.randrange(256)])
                case 3:
                    data[at:at] = data[at : at + rng.randint(1, 40)]
                case _:
                    data[at : at + 4] = rng.choice((0, 1, 255, 1 << 31, (1 << 32) - 1)).to_bytes(
                        4, "little"
                    )
        try:
            records, complete = read_records(bytes(data), expected, LIMITS)
        except ProtocolError:
            continue
        assert len(records) <= expected and (len(records) == expected or not complete)
        for got in records:
            if got.status is Status.OK and got.text:
                assert parse_value(got.text, 4 * LIMITS.output_bytes) == got.text
            if got.shown:
                assert parse_arguments(got.shown, 4 * 8 * LIMITS.output_bytes) == got.shown
