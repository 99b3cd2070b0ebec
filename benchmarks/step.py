"""Whole self-play steps of the embedded tiny default: what they wait for, and where the time goes.

    python benchmarks/step.py [--json FILE]

Hardware: 2 CPU cores and the sandbox. Time: about two minutes. Runs gin/runs/tiny.gin for a few
steps in a folder of its own, without its held-out measurements; the first steps warm up.

sandbox_wait_share is the time that the step stands still for verdicts, over the step's time;
sandbox_cpu_share the sandbox's part of all CPU time; host_share the time between two slices of the
sampler that is spent in no device program; recompiles are programs compiled after the warm-up.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

# Beside this script stands `sandbox.py`, which is not the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from azr_jax import config, train
from azr_jax.build import open_run
from azr_jax.model.sampler import Sampler
from azr_jax.model.sizes import Shape
from azr_jax.report.metrics import read_rows
from azr_jax.run import Run
from benchmarks import beside
from sandbox import Job, Outcome, Sandbox

STEPS, WARM_UP = 12, 4
BINDINGS = (
    f"TOTAL_STEPS = {STEPS}",
    "EvalConfig.test = ''",
    "EvalConfig.dev = ''",
    "EvalConfig.every = 0",
)


class _Verdict(Future[Outcome]):
    """A verdict that counts how long it is waited for."""

    def __init__(self, verdict: Future[Outcome], box: Waited) -> None:
        super().__init__()
        self._verdict, self._box = verdict, box

    def result(self, timeout: float | None = None) -> Outcome:
        started = time.monotonic()
        try:
            return self._verdict.result(timeout)
        finally:
            self._box.waited_s += time.monotonic() - started

    def add_done_callback(self, call: Any) -> None:
        self._verdict.add_done_callback(lambda _: call(self))


class Waited:
    """A sandbox that counts how long its caller waits for it."""

    def __init__(self, box: Sandbox) -> None:
        self._box = box
        self.waited_s = 0.0

    def submit(self, job: Job) -> Future[Outcome]:
        return _Verdict(self._box.submit(job), self)

    def run(self, jobs: Iterable[Job]) -> list[Outcome]:
        return [future.result() for future in [self.submit(job) for job in jobs]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._box, name)


class Called:
    """Counts the time inside a sampler's device programs between two slices."""

    def __init__(self, sampler: Sampler) -> None:
        self.seconds = 0.0
        self._get = sampler.programs.get
        sampler.programs.get = self._timed  # type: ignore[method-assign]

    def _timed(self, shape: Shape) -> Any:
        started = time.monotonic()
        program = self._get(shape)
        self.seconds += time.monotonic() - started  # compiles, the first time

        def call(*arguments: Any) -> Any:
            started = time.monotonic()
            try:
                return program(*arguments)
            finally:
                self.seconds += time.monotonic() - started

        return call


@dataclass(frozen=True)
class Totals:
    """Running sums at the end of a step: seconds, tokens, programs compiled."""

    wall_s: float
    waited_s: float
    own_cpu_s: float
    sandbox_cpu_s: float
    host_s: float
    tokens: int
    compiled: int

    @classmethod
    def now(cls, run: Run, box: Waited, called: Called) -> Totals:
        own = resource.getrusage(resource.RUSAGE_SELF)
        return cls(
            wall_s=time.monotonic(),
            waited_s=box.waited_s,
            own_cpu_s=own.ru_utime + own.ru_stime,
            sandbox_cpu_s=_sandbox_cpu_s(box),
            host_s=run.sampler.counters.host_s - called.seconds,
            tokens=run.sampler.counters.tokens,
            compiled=run.sampler.compiled + run.updater.compiled,
        )

    def since(self, before: Totals) -> Totals:
        old = asdict(before)
        return Totals(**{name: value - old[name] for name, value in asdict(self).items()})


def _sandbox_cpu_s(box: Any) -> float:
    """CPU of the fork servers and of the programs they ran."""
    ticks = 0
    for pid in box.zygote_pids():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))  # its own and its children's, user and system
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def measured_run(directory: Path) -> Iterator[tuple[Run, Waited]]:
    """The tiny default in `directory`, its sandbox's waits counted."""
    config.parse(["runs/tiny.gin"], [*BINDINGS, f"RUN_DIR = {str(directory)!r}"])
    with open_run() as run:
        box = Waited(run.game.box)
        run.game.box = box  # type: ignore[assignment]
        yield run, box


def measure() -> tuple[list[Totals], list[Mapping[str, Any]]]:
    """Every step's own times, and the run's own metrics of them."""
    seen: list[Totals] = []
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "run"
        with measured_run(directory) as (run, box):
            log, called = run.log, Called(run.sampler)

            def logged(*args: Any) -> None:
                log(*args)
                seen.append(Totals.now(run, box, called))

            run.log = logged  # type: ignore[method-assign]
            train.train(run)
        rows = [row for row in read_rows(directory / "metrics") if "tokens_per_s" in row]
    return [after.since(before) for before, after in pairwise(seen)], rows


def shares(steps: list[Totals]) -> dict[str, float]:
    """What the steps after the warm-up say together."""
    total = {name: sum(getattr(s, name) for s in steps) for name in asdict(steps[0])}
    return {
        "sandbox_wait_share": total["waited_s"] / total["wall_s"],
        "sandbox_cpu_share": total["sandbox_cpu_s"] / (total["sandbox_cpu_s"] + total["own_cpu_s"]),
        "host_share": total["host_s"] / total["wall_s"],
        "recompiles": total["compiled"],
        "tokens_per_s": total["tokens"] / total["wall_s"],
    }


def main() -> None:
    """Measure, print the table and the shares, write the JSON file."""
    path = beside.json_argument(__doc__)
    steps, rows = measure()
    phases = sorted({name for row in rows for name in row if name.startswith("seconds/")})
    print("| phase of a step | seconds |\n|---|--:|")
    for name in phases:
        mean = sum(row.get(name, 0.0) for row in rows[WARM_UP:]) / len(rows[WARM_UP:])
        print(f"| {name.removeprefix('seconds/')} | {mean:.3f} |")
    print()
    raw = [{"step": number, **asdict(s)} for number, s in enumerate(steps, start=1)]
    beside.finish(path, shares(steps[WARM_UP - 1 :]), raw)


if __name__ == "__main__":
    main()
