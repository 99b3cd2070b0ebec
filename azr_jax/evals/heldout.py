"""What a run reports: held-out accuracy sampled, greedy, and at the policy's best temperature.

The best temperature is chosen on dev tasks. It is the control for sharpening: a gain at
temperature 1 that lowering the base's temperature gives for free is no learning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gin
import numpy as np
from jaxtyping import Bool

from azr_jax.errors import UserError
from azr_jax.evals.harness import (
    BENCHMARKS,
    Estimate,
    EvalTask,
    accuracy,
    evaluate,
    gain,
    load_tasks,
)
from azr_jax.model.sampler import Completion, Prompt
from azr_jax.selfplay.play import SelfPlay

MODES = ("sampled", "greedy", "best_temperature")


@gin.configurable
@dataclass(frozen=True)
class EvalConfig:
    """The held-out measurement before and after a run; no `test` benchmark: none.

    samples: per test task, for the sampled modes. dev_samples: per dev task and temperature.
    """

    test: str = ""
    dev: str = ""
    samples: int = 8
    dev_samples: int = 4
    temperatures: tuple[float, ...] = (0.3, 0.5, 0.7, 1.0)

    def __post_init__(self) -> None:
        for name in (self.test, self.dev):
            if name and name not in BENCHMARKS:
                raise UserError(f"EvalConfig: {name!r} is none of {', '.join(BENCHMARKS)}")
        if bool(self.test) != bool(self.dev):
            raise UserError("EvalConfig: test and dev go together: one to report, one to choose")


@dataclass(frozen=True)
class Measured:
    """Right or wrong, by test task and sample, for each mode."""

    best_temperature: float
    sampled: Bool[np.ndarray, "tasks samples"]
    greedy: Bool[np.ndarray, "tasks 1"]
    at_best_temperature: Bool[np.ndarray, "tasks samples"]

    def of(self, mode: str) -> Bool[np.ndarray, "tasks samples"]:
        modes = {"sampled": self.sampled, "greedy": self.greedy}
        return modes.get(mode, self.at_best_temperature)

    def to_json(self) -> dict[str, Any]:
        return {
            "best_temperature": self.best_temperature,
            **{mode: self.of(mode).astype(int).tolist() for mode in MODES[:2]},
            "at_best_temperature": self.at_best_temperature.astype(int).tolist(),
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Measured:
        arrays = {k: np.array(v, bool) for k, v in row.items() if k != "best_temperature"}
        return cls(best_temperature=row["best_temperature"], **arrays)


def measure(
    config: EvalConfig,
    play: SelfPlay,
    sample: Callable[[Sequence[Prompt], float], Iterator[Completion]],
    encode: Callable[[str], Sequence[int]],
) -> Measured:
    """All modes on the test tasks, after the temperature was chosen on the dev tasks."""

    def right(tasks: Sequence[EvalTask], samples: int, temperature: float) -> np.ndarray:
        return evaluate(tasks, play, sample, encode, samples=samples, temperature=temperature)

    dev, test = (load_tasks(BENCHMARKS[name]) for name in (config.dev, config.test))
    scores = {t: right(dev, config.dev_samples, t).mean() for t in config.temperatures}
    best = max(scores, key=lambda t: scores[t])
    sampled = right(test, config.samples, 1.0)
    return Measured(
        best_temperature=best,
        sampled=sampled,
        greedy=right(test, 1, 0.0),
        at_best_temperature=sampled if best == 1.0 else right(test, config.samples, best),
    )


def report(config: EvalConfig, before: Measured, after: Measured) -> dict[str, Any]:
    """The `heldout` part of `summary.json`: before, after and gain, by task type and overall."""
    tasks = load_tasks(BENCHMARKS[config.test])
    found: dict[str, Any] = {}
    for name, measured in (("before", before), ("after", after)):
        found[name] = _table(tasks, lambda mode: accuracy(measured.of(mode), tasks), "stderr")  # noqa: B023
        for cells in found[name].values():
            cells["best_temperature"]["temperature"] = measured.best_temperature
    found["gain"] = _table(
        tasks, lambda mode: gain(before.of(mode), after.of(mode), tasks), "stderr_paired"
    )
    for cells in found["gain"].values():
        cells["at_best_temperature"] = cells.pop("best_temperature")
    return found


def _table(
    tasks: Sequence[EvalTask], cells: Callable[[str], dict[str, Estimate]], error: str
) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for mode in MODES:
        for name, cell in cells(mode).items():
            if "/" not in name:
                table.setdefault(name, {})[mode] = {"mean": cell.mean, error: cell.stderr}
    return table
