"""The two reward formulas. Absolute Zero, arXiv 2505.03335, equations 4 to 6.

A reward of None is masked: the infrastructure failed, and nobody knows what it should be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from azr_jax.errors import UserError

WRONG, UNREADABLE = -0.5, -1.0


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """zero_extreme: what a task earns that is always or never solved: 0.0 in the paper's
        equations, -0.5 in the code that its results came from.
    induction: whether an induction answer must satisfy all hidden pairs ('binary'), or is worth
        the share of them that it satisfies ('graded').
    """

    zero_extreme: float = 0.0
    induction: Literal["binary", "graded"] = "binary"

    def __post_init__(self) -> None:
        if self.zero_extreme not in (0.0, -0.5):
            raise UserError(f"zero_extreme is 0.0 (paper) or -0.5 (code), not {self.zero_extreme}")
        if self.induction not in ("binary", "graded"):
            raise UserError(f"induction is 'binary' or 'graded', not {self.induction!r}")


def score(accuracy: float | None, config: RewardConfig) -> float | None:
    """Correctness of one answer in [0, 1]. Accuracy is 0 or 1 but for induction."""
    if accuracy is None or config.induction == "graded":
        return accuracy
    return float(accuracy == 1.0)


def solve_rate(scores: Sequence[float | None]) -> float | None:
    """Mean over the samples that have a score; None if none has."""
    known = [value for value in scores if value is not None]
    return sum(known) / len(known) if known else None


def learnability(rate: float) -> float:
    """1 − solve rate, but 0 at either end: what is never solved teaches no more than
    what always is. With 8 samples the most learnable task is the one that is solved once.
    """
    return 1.0 - rate if rate > 0.0 else 0.0


def proposer_reward(
    valid: bool, well_formed: bool, rate: float | None, config: RewardConfig
) -> float | None:
    """`rate` of a valid and well-formed proposal; None masks it. Equations 4 and 6."""
    if not (valid and well_formed):
        return UNREADABLE
    if rate is None:
        return None
    reward = learnability(rate)
    return reward if reward > 0.0 else config.zero_extreme


def solver_reward(well_formed: bool, score: float | None) -> float | None:
    """Right 1 (or the graded score), wrong -0.5, unreadable -1. Equations 5 and 6."""
    if not well_formed:
        return UNREADABLE
    if score is None:
        return None
    return score if score > 0.0 else WRONG
