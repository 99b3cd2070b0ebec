"""Which checkpoints of a run stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orbax.checkpoint import v1 as ocp


class Retention(ocp.training.preservation_policies.PreservationPolicy):
    """The newest `last`, the steps that `every` divides (0: none), the best, and the proven one.

    The caller fills in `scores`, by step: the higher, the better; and `proven`, a step up to which
    the run is known to have been well: the newest checkpoint up to there stays.
    """

    def __init__(self, last: int, every: int = 0) -> None:
        if last < 1 or every < 0:
            raise ValueError(f"last is at least 1, not {last}; every is at least 0, not {every}")
        self._last, self._every = last, every
        self.scores: dict[int, float] = {}
        self.proven = -1

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """One verdict a checkpoint; they come in ascending order of their `step`."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        stay = set(steps[-self._last :])
        if self._every:
            stay |= {step for step in steps if step % self._every == 0}
        stay |= set(
            sorted((s for s in steps if s in self.scores), key=self.scores.__getitem__)[-1:]
        )
        stay |= {max((step for step in steps if step <= self.proven), default=-1)}
        return [step in stay for step in steps]
