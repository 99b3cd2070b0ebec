"""The decoder of what a child wrote: hostile bytes raise ProtocolError, nothing else."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import Limits, Status
from sandbox.child.harness import END, HEADER, OK, RAISED
from sandbox.wire import ProtocolError, pack_job, read_records

LIMITS = Limits(output_bytes=1000, depth=10)


def record(kind: int, text: bytes, shown: bytes = b"") -> bytes:
    return HEADER.pack(kind, len(shown), len(text)) + shown + text


def test_honest_stream():
    stream = record(OK, b"[1, 2]", b"1, 'a'") + record(RAISED, b"ValueError") + END
    records, complete = read_records(stream, 2, LIMITS)
    assert complete
    assert [(r.status, r.shown, r.text) for r in records] == [
        (Status.OK, "1, 'a'", "[1, 2]"),
        (Status.RAISED, None, "ValueError"),
    ]


def test_killed_child_keeps_finished_records():
    first = record(OK, b"1")
    for cut in range(len(first), 2 * len(first)):
        records, complete = read_records((first + first)[:cut], 2, LIMITS)
        assert len(records) == 1 and not complete


@pytest.mark.parametrize(
    "stream",
    [
        record(OK, b"1") + END + END,
        record(OK, b"1") + record(OK, b"1") + END,
        record(OK, b"1") + b"x",
        record(77, b"1") + END,
        record(OK, b"__import__('os')") + END,
        record(OK, b"\xff") + END,
        record(OK, b"1", b"*x") + END,
        HEADER.pack(OK, 0, 1 << 31),
    ],
)
def test_tampered_stream(stream):
    with pytest.raises(ProtocolError):
        read_records(stream, 1, LIMITS)


def test_over_the_caps_is_unsupported():
    for text in (b"[" * 11 + b"]" * 11, b"'" + b"a" * 1000 + b"'", b"9" * 999999):
        with_room = Limits(output_bytes=1000, depth=10)
        try:
            records, _ = read_records(record(OK, text) + END, 1, with_room)
        except ProtocolError:
            assert len(text) > 4 * 1000
        else:
            assert records[0].status is Status.UNSUPPORTED


@given(st.binary(max_size=300), st.integers(1, 3))
def test_fuzz(stream, expected):
    try:
        records, _ = read_records(stream, expected, LIMITS)
    except ProtocolError:
        return
    assert len(records) <= expected


@given(st.integers(1, 5), st.binary(max_size=60), st.binary(max_size=60))
def test_fuzz_inside_a_frame(kind, shown, text):
    with contextlib.suppress(ProtocolError):
        read_records(record(kind, text, shown) + END, 1, LIMITS)


def test_job_over_the_cap_is_refused():
    with pytest.raises(ValueError, match="job over"):
        pack_job("x" * (9 << 20), "f", [], 1, LIMITS)
