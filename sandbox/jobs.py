"""The plain values that cross the sandbox's border: `Limits`, `Job`, `Status`, `Outcome`."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Status(enum.StrEnum):
    """What became of a program on an input. All but INFRA are the program's own doing."""

    OK = "OK"
    RAISED = "RAISED"  # an exception, a syntax error, no such entry, exit()
    TIMEOUT = "TIMEOUT"  # over the CPU or wall budget
    OOM = "OOM"  # over the memory budget
    CRASHED = "CRASHED"  # killed by a signal, or exited with a code
    UNSUPPORTED = "UNSUPPORTED"  # the result is not a plain value, or over a cap
    NONDETERMINISTIC = "NONDETERMINISTIC"  # two calls, or two interpreters, disagree
    PROTOCOL = "PROTOCOL"  # the result stream was tampered with or cut short
    REJECTED = "REJECTED"  # by a policy or a parser, before anything ran
    INFRA = "INFRA"  # our failure: mask it, never score it


class SandboxUnavailable(RuntimeError):
    """This machine cannot give the requested isolation; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Budgets of one call.

    Attributes:
        cpu_s: CPU seconds per call (in a job of several, one in a hundred more); the clock stops
            while other processes run.
        wall_s: wall seconds per call, for programs that sleep; many times `cpu_s`.
        memory_mb: address space on top of the bare interpreter's, per program.
        output_bytes: UTF-8 bytes of one result's canonical text.
        depth: nesting of a result.
    """

    cpu_s: float = 1.0
    wall_s: float = 10.0
    memory_mb: int = 256
    output_bytes: int = 65536
    depth: int = 64

    def __post_init__(self) -> None:
        if not (0 < self.cpu_s < 1e5 and 0 < self.wall_s < 1e6):
            raise ValueError("cpu_s and wall_s have to be positive and sane")
        if self.memory_mb < 16 or self.output_bytes < 1 or not 0 <= self.depth <= 100:
            raise ValueError("memory_mb >= 16, output_bytes >= 1 and 0 <= depth <= 100 are needed")


@dataclass(frozen=True, slots=True)
class Job:
    """One program and the inputs to call it on.

    Attributes:
        code: Python source.
        inputs: argument text per call, e.g. ``"1, [2]"``; expressions see the program's names.
            Empty: the program is only loaded.
        entry: the function to call.
        deterministic: two calls in each of two interpreters with different hash seeds have to
            agree, byte for byte; the second call on the values that the literal text of the
            input gives, which share nothing.
        stop_at_failure: the inputs after the first that is not OK do not run and share its
            status; for callers that need all of them right.
        limits: instead of the sandbox's own.
        id: handed back in the outcome.
    """

    code: str
    inputs: tuple[str, ...] = ()
    entry: str = "f"
    deterministic: bool = False
    id: str = ""
    stop_at_failure: bool = False
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the sandbox says of one job.

    Attributes:
        id: the job's.
        status: the first of `statuses` that is not OK.
        statuses: one per input.
        outputs: canonical literal text of the result per input; None where not OK.
        error: of the first input that is not OK, for people to read.
        cpu_ms: CPU milliseconds of all processes that the job took.
        inputs: canonical argument text that each call saw, evaluated before the call; None where
            an argument is not a plain value or was never evaluated.
    """

    id: str
    status: Status
    statuses: tuple[Status, ...]
    outputs: tuple[str | None, ...]
    error: str | None
    cpu_ms: float
    inputs: tuple[str | None, ...]
