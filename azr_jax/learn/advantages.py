"""TRR++: task-relative REINFORCE++, advantages whitened inside each (role, task type) group.

Source: arXiv 2505.03335, section 3.3.5 and Eq. 8. Pure NumPy in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

Whitening = Literal["token", "sequence"]

EPSILON = 1e-8
"""Added to the variance before its root, as the original does."""


def trr_plus_plus(
    rewards: Sequence[float | None],
    groups: Sequence[int],
    lengths: Sequence[int],
    *,
    whiten: Whitening = "token",
) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Advantages of n completions: (reward - mean) / sqrt(variance + 1e-8) inside each group.

    Args:
      rewards: terminal reward of each completion (gamma = lambda = 1: the return of every token).
        None or NaN masks a completion: an infrastructure failure says nothing of the model.
      groups: which completions are whitened together; any integers.
      lengths: completion lengths in tokens, at least 1.
      whiten: "token" takes mean and unbiased variance over all response tokens of the group, as
        the original's code does: longer completions weigh more. "sequence" counts every
        completion once, as Eq. 8 is written.

    Returns:
      The advantages, the same for all tokens of a completion, and which completions count. Those
      that do not have advantage 0. A group of one, or whose rewards are all equal, has advantage
      0: nothing in it is better than the rest.

    Raises:
      ValueError: sequences of different lengths, an infinite reward, a length below 1.
    """
    if not len(rewards) == len(groups) == len(lengths):
        raise ValueError(
            f"{len(rewards)} rewards, {len(groups)} groups, {len(lengths)} lengths: must be as many"
        )
    if whiten not in ("token", "sequence"):
        raise ValueError(f"whiten must be token or sequence, not {whiten!r}")
    values = np.array([np.nan if r is None else r for r in rewards], np.float64)
    tokens = np.array(lengths, np.int64)
    group = np.array(groups, np.int64)
    _check(values, tokens)
    counted = ~np.isnan(values)
    advantages = np.zeros(len(values))
    for index in np.unique(group[counted]):
        members = counted & (group == index)
        weights = tokens[members] if whiten == "token" else np.ones(members.sum(), np.int64)
        advantages[members] = _whiten(values[members], weights)
    return advantages, counted


def _check(rewards: Float[np.ndarray, "n"], lengths: Int[np.ndarray, "n"]) -> None:
    for index in np.flatnonzero(np.isinf(rewards)):
        raise ValueError(f"reward {index} is infinite")
    for index in np.flatnonzero(lengths < 1):
        raise ValueError(f"completion {index} has {lengths[index]} tokens")


def _whiten(
    values: Float[np.ndarray, "n"], weights: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """`values`, each taken `weights` times, to mean 0 and unbiased variance 1."""
    if len(values) < 2 or np.ptp(values) == 0.0:
        return np.zeros_like(values)
    count = weights.sum()
    centred = values - (weights * values).sum() / count
    variance = (weights * centred**2).sum() / (count - 1)
    whitened: Float[np.ndarray, "n"] = centred / np.sqrt(variance + EPSILON)
    return whitened
