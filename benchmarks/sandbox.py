"""The sandbox beside the original's executor, a process per program, and the bare fork.

    python benchmarks/sandbox.py [--json FILE]

Hardware: any Linux; needs nothing but Python >= 3.11. Time: about four minutes, of which three are
the original's, waiting for endless loops. All sides run the same programs, in turns, in one run;
no two programs are equal, and every one is called twice on every input. Ours: level 2, 1 s of CPU
and 256 MiB a program, all cores, one interpreter. `sandbox_original.py` and `bare_fork.py` say what
the others are. The bare fork has loaded all modules that programs may import, as ours would have to
with one kind of zygote; the lean one those of a lean zygote, in which ours runs these programs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

# This script is called like the package that it measures.
HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parent)

from sandbox import Job, Limits, Sandbox, Status
from sandbox.bench import clean, cpu_seconds, mixed
from sandbox.child.preload import LEAN, MODULES

CORES = len(os.sched_getaffinity(0))
OUR_MOST = 2 * (CORES + 1)
"""Processes that ours lets run at once, by default."""
FRESH = count(0, 100_000)
"""Where a batch's programs begin, so that no two in one run are equal."""


@dataclass(frozen=True)
class Took:
    """One batch of one side: `programs` of which `done` gave a result; seconds.

    `cpu_s` is None where workers outlive the batch, whose time nobody has asked for yet.
    """

    programs: int
    done: int
    wall_s: float
    cpu_s: float | None


Run = Callable[[list[Job]], Took]


@contextmanager
def ours(level: int = 2) -> Iterator[Run]:
    """Our sandbox; CPU is that of this process, the zygotes and their children."""

    def run(jobs: list[Job]) -> Took:
        jobs = [Job(j.code, j.inputs, deterministic=True) for j in jobs]
        started, before = time.monotonic(), cpu_seconds(box)
        outcomes = box.run(jobs)
        done = sum(o.status is Status.OK for o in outcomes)
        return Took(len(jobs), done, time.monotonic() - started, cpu_seconds(box) - before)

    with Sandbox(
        limits=Limits(cpu_s=1.0, memory_mb=256), level=level, interpreters=1, cache_size=0
    ) as box:
        yield run


@contextmanager
def peer(script: str, *arguments: str) -> Iterator[Run]:
    """A peer in a process of its own."""
    command = [sys.executable, "-S", "-s", "-B", str(HERE / script), *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdin and process.stdout

    def run(jobs: list[Job]) -> Took:
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps([[j.code, j.inputs] for j in jobs]) + "\n")
        answer = process.stdout.readline()
        if not answer:
            raise SystemExit(f"the peer ended: {' '.join(command)}")
        return Took(len(jobs), **json.loads(answer))

    try:
        yield run
    finally:
        process.stdin.close()
        process.wait()


@contextmanager
def process_each() -> Iterator[Run]:
    """A fresh interpreter per program, as many at once as there are cores."""

    def one(job: Job) -> bool:
        calls = "".join(f"print(repr(f({t})), repr(f({t})))\n" for t in job.inputs)
        command = [sys.executable, "-I", "-S", "-c", f"{job.code}\n{calls}"]
        return subprocess.run(command, capture_output=True, timeout=10).returncode == 0

    def run(jobs: list[Job]) -> Took:
        started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        with ThreadPoolExecutor(CORES) as threads:
            done = sum(threads.map(one, jobs))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Took(len(jobs), done, time.monotonic() - started, cpu)

    yield run


def original(timeout_s: float, workers: int, *flags: str) -> Any:
    """The shape of the original's executor."""
    return peer(
        "sandbox_original.py", "--timeout_s", str(timeout_s), "--workers", str(workers), *flags
    )


@dataclass(frozen=True)
class Case:
    """Sides that run the same kind of batch in turns; the first one is ours."""

    title: str
    make: Callable[[int, int], list[Job]]
    sides: dict[str, tuple[Any, int]]  # name: how to open it, programs a batch
    rounds: int


def cases() -> list[Case]:
    """What is measured."""
    serial, all_cores = "original", f"original's batch interface, {CORES} workers"
    equal = f"original, 1 s, {OUR_MOST} workers"
    return [
        Case(
            "clean, one input", lambda n, start: clean(n, 1, start),
            {
                "ours": (ours(), 1000),
                "bare fork, 1 core": (peer("bare_fork.py", "plain", ",".join(MODULES)), 500),
                "lean bare fork, 1 core": (peer("bare_fork.py", "lean", ",".join(LEAN)), 500),
                serial: (original(10, 1, "--sequential"), 1000),
                all_cores: (original(10, CORES), 2000),
                "a process per program": (process_each(), 60),
            }, 5,
        ),
        Case(
            "clean, ten inputs of one program", lambda n, start: clean(n, 10, start),
            {
                "ours": (ours(), 400),
                serial: (original(10, 1, "--sequential"), 200),
                all_cores: (original(10, CORES), 200),
            }, 5,
        ),
        Case(
            "2 % endless loops, 1 % memory bombs; 1 s", mixed,
            {
                "ours": (ours(), 200),
                equal: (original(1, OUR_MOST, "--sequential"), 100),
                all_cores: (original(1, CORES), 200),
            }, 3,
        ),
        Case(
            "2 % endless loops, 1 % memory bombs; as shipped", mixed,
            {"ours": (ours(), 200), serial: (original(10, 1, "--sequential"), 100)}, 2,
        ),
    ]  # fmt: skip


def measure(case: Case) -> dict[str, list[Took]]:
    """All rounds of all sides, in turns, each after a batch to warm up."""
    taken: dict[str, list[Took]] = {name: [] for name in case.sides}
    with ExitStack() as stack:
        runs = {
            name: (stack.enter_context(side), programs)
            for name, (side, programs) in case.sides.items()
        }
        for run, _ in runs.values():
            run(clean(20, 1, next(FRESH)))
        for number in range(case.rounds):
            for name, (run, programs) in runs.items():
                print(f"{case.title}: round {number + 1}, {name}", file=sys.stderr, flush=True)
                taken[name].append(run(case.make(programs, next(FRESH))))
    return taken


def ratio(
    taken: dict[str, list[Took]], side: str, of: Callable[[Took], float], inverse: bool = False
) -> float:
    """Ours over the other's, by the median of the rounds' ratios (`inverse`: the other over us)."""
    pairs = zip(taken["ours"], taken[side], strict=True)
    return median(of(b) / of(a) if inverse else of(a) / of(b) for a, b in pairs)


def rate(took: Took) -> float:
    """Programs per second."""
    return took.programs / took.wall_s


def cpu(took: Took) -> float:
    """CPU seconds per program."""
    assert took.cpu_s is not None
    return took.cpu_s / took.programs


def claims(found: Sequence[dict[str, list[Took]]]) -> dict[str, float]:
    """The ratios that this script answers for; above 1 we are faster, `overhead_…` aside."""
    single, grouped, same, shipped = found
    serial, equal = "original", f"original, 1 s, {OUR_MOST} workers"
    return {
        "mixed_as_shipped": ratio(shipped, serial, rate),
        "mixed_equal": ratio(same, equal, rate),
        "clean_grouped": ratio(grouped, serial, rate),
        "clean_single": ratio(single, serial, rate),
        "overhead_vs_fork": ratio(single, "bare fork, 1 core", cpu),
        "overhead_vs_lean_fork": ratio(single, "lean bare fork, 1 core", cpu),
    }


def table(case: Case, taken: dict[str, list[Took]]) -> str:
    """Medians over the rounds, in Markdown."""
    lines = [
        f"| {case.title} | programs/s | ms of CPU per program | no result |",
        "|---|--:|--:|--:|",
    ]
    for name, rows in taken.items():
        lost = sum(t.programs - t.done for t in rows) / sum(t.programs for t in rows)
        known = rows[0].cpu_s is not None
        price = f"{1e3 * median(map(cpu, rows)):.2f}" if known else ""
        lines.append(f"| {name} | {median(map(rate, rows)):.0f} | {price} | {lost:.1%} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the tables and the ratios, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    machine = f"{platform.machine()}, {CORES} cores, Python {platform.python_version()}"
    date = datetime.now(UTC).date().isoformat()
    found, rows = [], []
    for case in cases():
        taken = measure(case)
        found.append(taken)
        print(table(case, taken) + "\n", flush=True)
        rows += [
            {"case": case.title, "side": name, "round": number, **asdict(took)}
            for name, rounds in taken.items()
            for number, took in enumerate(rounds)
        ]
    ratios = claims(found)
    for claim, value in ratios.items():
        print(f"{claim:32}{value:8.2f}")
    print(f"\n{machine}, {date}")
    if args.json:
        report = {"machine": machine, "date": date, "ratios": ratios, "rows": rows}
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
