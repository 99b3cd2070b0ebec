"""What a run reports: held-out accuracy sampled, greedy, and at the policy's best temperature.

The best temperature is chosen on dev tasks. It is the control for sharpening: a gain at
temperature 1 that lowering the base's temperature gives for free is no learning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gin
import numpy as np
from jaxtyping import Bool

from azr_jax import storage
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

Sample = Callable[[Sequence[Prompt], float], Iterator[Completion]]
"""Completions of prompts at a temperature."""

MODES = ("sampled", "greedy", "best_temperature")


@gin.configurable
@dataclass(frozen=True)
class EvalConfig:
    """The held-out measurement before and after a run; no `test` benchmark: none.

    samples: per test task, for the sampled modes. dev_samples: per dev task and temperature.
    every: steps between measurements on the dev tasks alone, each with a checkpoint; the checkpoint
        that did best stays. 0: none.
    """

    test: str = ""
    dev: str = ""
    samples: int = 8
    dev_samples: int = 4
    every: int = 0
    temperatures: tuple[float, ...] = (0.3, 0.5, 0.7, 1.0)

    def __post_init__(self) -> None:
        for name in (self.test, self.dev):
            if name and name not in BENCHMARKS:
                raise UserError(f"EvalConfig: {name!r} is none of {', '.join(BENCHMARKS)}")
        if bool(self.test) != bool(self.dev):
            raise UserError("EvalConfig: test and dev go together: one to report, one to choose")
        if self.every < 0 or (self.every and not self.dev):
            raise UserError(f"EvalConfig.every is {self.every}: it needs a dev benchmark, or is 0")


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

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        storage.write(path, json.dumps(self.to_json()) + "\n")

    @classmethod
    def read(cls, path: Path) -> Measured | None:
        """None where there is no such file.

        Raises:
          UserError: the file is damaged.
        """
        text = storage.read(path)
        if text is None:
            return None
        try:
            return cls.from_json(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} is damaged: restore it from a copy, or remove it: the run then ends "
                "without its table of gains"
            ) from error

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Measured:
        arrays = {k: np.array(v, bool) for k, v in row.items() if k != "best_temperature"}
        return cls(best_temperature=row["best_temperature"], **arrays)


def score(
    config: EvalConfig, play: SelfPlay, sample: Sample, encode: Callable[[str], Sequence[int]]
) -> float:
    """Accuracy in [0, 1] at temperature 1 on the dev tasks: what may choose between checkpoints."""
    tasks = load_tasks(BENCHMARKS[config.dev])
    right = evaluate(tasks, play, sample, encode, samples=config.dev_samples, temperature=1.0)
    return float(right.mean())


def measure(
    config: EvalConfig,
    play: SelfPlay,
    sample: Sample,
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
