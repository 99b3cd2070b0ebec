"""Bytes between parent and child: jobs out, records back. The child's bytes are hostile."""

from __future__ import annotations

import marshal
from dataclasses import dataclass

from sandbox.child.harness import END, HEADER, NONDETERMINISTIC, OK, OOM, RAISED, UNSUPPORTED
from sandbox.child.zygote import LONG, SHORT
from sandbox.jobs import Limits, Status
from sandbox.literals import LiteralError, LiteralTooBig, parse_arguments, parse_value

MAX_JOB_BYTES = 8 << 20
_ERROR_BYTES = 4096
_STATUS = {
    OK: Status.OK,
    RAISED: Status.RAISED,
    OOM: Status.OOM,
    UNSUPPORTED: Status.UNSUPPORTED,
    NONDETERMINISTIC: Status.NONDETERMINISTIC,
}


class ProtocolError(ValueError):
    """The child's stream is not what the harness writes."""


@dataclass(frozen=True, slots=True)
class Record:
    """One input's claim: canonical argument text (None: literal input, or not a plain value)."""

    status: Status
    shown: str | None
    text: str


def pack_job(
    code: str, entry: str, inputs: list[tuple[str, bool]], repeats: int, limits: Limits
) -> bytes:
    """A job for the child; raises ValueError where it is over `MAX_JOB_BYTES`.

    marshal: the child runs our interpreter and trusts its parent. The way back is not like that.
    """
    budget = limits.cpu_s, limits.wall_s, limits.memory_mb
    body = marshal.dumps((code, entry, inputs, repeats, budget, limits.output_bytes, limits.depth))
    if len(body) > MAX_JOB_BYTES:
        raise ValueError(f"job over {MAX_JOB_BYTES} bytes")
    return body if len(body) <= SHORT else LONG + len(body).to_bytes(4, "little") + body


def max_stream_bytes(inputs: int, limits: Limits) -> int:
    """What an honest child writes at most; a longer stream is not read."""
    per_input = HEADER.size + 16 * limits.output_bytes + _ERROR_BYTES
    return max(1, inputs) * per_input + len(END)


def read_records(stream: bytes, expected: int, limits: Limits) -> tuple[list[Record], bool]:
    """The records of a stream, and whether it ended properly after `expected` of them.

    Raises ProtocolError for anything that the harness would not write. A stream that merely stops
    (its child was killed) is no error: the finished records come back with False.
    """
    records: list[Record] = []
    at, size = 0, len(stream)
    while at < size and len(records) < expected:
        if size - at < HEADER.size:
            return records, False
        kind, shown_size, text_size = HEADER.unpack_from(stream, at)
        if kind not in _STATUS:
            raise ProtocolError("unknown record")
        if shown_size > 8 * limits.output_bytes or text_size > max(
            limits.output_bytes * 4, _ERROR_BYTES
        ):
            raise ProtocolError("record over the cap")
        at += HEADER.size
        if size - at < shown_size + text_size:
            return records, False
        shown = stream[at : at + shown_size]
        at += shown_size
        text = stream[at : at + text_size]
        at += text_size
        records.append(_record(kind, shown, text, limits))
    if at == size:
        return records, False
    if stream[at:] != END:
        raise ProtocolError("bytes after the last record")
    return records, True


def _record(kind: int, shown: bytes, text: bytes, limits: Limits) -> Record:
    try:
        seen = _arguments(shown.decode(), limits) if shown else None
        claim = text.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("not UTF-8") from error
    if kind != OK:
        return Record(_STATUS[kind], seen, claim)
    if not claim:
        return Record(Status.OK, seen, "")
    try:
        value = parse_value(claim, limits.output_bytes, limits.depth)
    except LiteralTooBig as error:
        return Record(Status.UNSUPPORTED, seen, str(error))
    except LiteralError as error:
        raise ProtocolError("a result that is no literal") from error
    if len(text) > limits.output_bytes:
        return Record(Status.UNSUPPORTED, seen, f"result over {limits.output_bytes} bytes")
    return Record(Status.OK, seen, value)


def _arguments(shown: str, limits: Limits) -> str | None:
    if shown == " ":
        return None
    if shown == "()":
        return ""
    try:
        return parse_arguments(shown, 8 * limits.output_bytes, limits.depth)
    except LiteralTooBig:
        return None
    except LiteralError as error:
        raise ProtocolError("arguments that are no literals") from error
