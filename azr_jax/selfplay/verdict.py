"""What the sandbox says of an answer, and how a run becomes that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sandbox import Job, Outcome, Status, literals


@dataclass(frozen=True, slots=True)
class Verdict:
    """accuracy: share of the pairs that are right, in [0, 1]; None where nobody can tell, because
    the infrastructure failed. status: FORMAT, REJECTED, or the sandbox's word."""

    accuracy: float | None
    status: str


@dataclass(frozen=True, slots=True)
class Check:
    """A run that is still to be made, and how its outcome is read."""

    job: Job
    verdict: Callable[[Outcome], Verdict]


def same(a: str, b: str) -> bool:
    """Python's == of two literal texts; False for what is too big or too deep to compare."""
    try:
        return literals.equal(a, b)
    except literals.LiteralError:
        return False


def check_pairs(job: Job, wanted: Sequence[str], scored: int | None = None) -> Check:
    """Does `job` give the `wanted` values, one per input? They never enter the sandbox.

    The accuracy is the share of the first `scored` (default: all) that it gives, and 0 where it
    misses one of the rest.
    """

    def verdict(outcome: Outcome) -> Verdict:
        if Status.INFRA in (outcome.status, *outcome.statuses):
            return Verdict(None, Status.INFRA.name)
        right = [
            output is not None and same(output, value)
            for output, value in zip(outcome.outputs, wanted, strict=True)
        ]
        share = sum(right[:scored]) / len(right[:scored])
        return Verdict(share if all(right[len(right[:scored]) :]) else 0.0, outcome.status.name)

    return Check(job, verdict)
