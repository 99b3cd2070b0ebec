"""The sandbox on a machine that is too busy, and over many jobs."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Job, Limits, Sandbox, Status
from tests.hostile.suite import content, good_jobs, processes_of

CORES = len(os.sched_getaffinity(0))
LIMITS = Limits(cpu_s=0.15, wall_s=30.0, memory_mb=64)
COUNTS = [pytest.param(1, id="sample"), pytest.param(0, id="full", marks=pytest.mark.soak)]


@contextlib.contextmanager
def busy_loops(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def test_just_under_the_limit_beside_busy_loops() -> None:
    """The clock that counts is the program's own."""
    code = (
        "import time\ndef f(n):\n    end = time.process_time() + 0.9 * 0.15\n"
        "    while time.process_time() < end: pass\n    return n"
    )
    jobs = [Job(f"{code}  # {k}", (str(k), "0")) for k in range(2 * CORES)]
    with busy_loops(2 * CORES), Sandbox(limits=LIMITS, workers=2 * CORES, cache_size=0) as box:
        outcomes = box.run(jobs)
    assert [o.outputs for o in outcomes] == [(str(k), "0") for k in range(2 * CORES)]


@pytest.mark.parametrize("sample", COUNTS)
def test_good_programs_on_four_times_the_load(sample: int) -> None:
    """No false verdict: 20 000 programs, four runnable processes to a core."""
    jobs = good_jobs(300 if sample else 20_000, "x" * 24)
    with Sandbox(limits=LIMITS, workers=CORES, cache_size=0) as box:
        quiet = [content(o) for o in box.run(jobs[:300])]
    loops = busy_loops(CORES if sample else 2 * CORES)
    with loops, Sandbox(limits=LIMITS, workers=4 * CORES, cache_size=0) as box:
        loaded = [content(o) for o in box.run(jobs)]
    assert loaded[:300] == quiet
    for k, (_, statuses, *_) in enumerate(loaded):
        assert statuses == (Status.OK, Status.RAISED if k % 5 == 4 else Status.OK), k


@pytest.mark.parametrize("sample", COUNTS)
def test_mostly_loops(sample: int) -> None:
    """A thousand jobs, nine of ten an endless loop: each costs its limit, and no good one less."""
    limits = Limits(cpu_s=0.05, wall_s=30.0, memory_mb=64)
    count = 30 if sample else 1000
    jobs = [
        Job(f"def f(x):\n    while x % 10: pass\n    return {k}", (str(k),)) for k in range(count)
    ]
    with Sandbox(limits=limits, workers=CORES, cache_size=0) as box:
        outcomes = box.run(jobs)
    spent = sorted(o.cpu_ms for o in outcomes if o.status is Status.TIMEOUT)
    assert spent[len(spent) // 2] < 1.1 * 50 + 30  # a few bear what the host took from its guest
    for k, outcome in enumerate(outcomes):
        if k % 10:
            assert outcome.status is Status.TIMEOUT and outcome.cpu_ms < 500
        else:
            assert outcome.outputs == (str(k),)


@pytest.mark.parametrize("sample", COUNTS)
def test_a_hundred_bombs(sample: int) -> None:
    """All children together stay within 2 x workers x (the limit + the bare interpreter)."""
    limits = Limits(cpu_s=0.3, wall_s=30.0, memory_mb=64)
    bomb = "def f():\n    keep = []\n    while True: keep.append(b'x' * (1 << 20) * {k})"
    page = os.sysconf("SC_PAGESIZE")
    peak, found = 0, set[Status]()
    with Sandbox(limits=limits, workers=4, cache_size=0) as box:
        for _ in range(100):  # until this process was awake at the right moment
            futures = [
                box.submit(Job(bomb.format(k=k), ("",))) for k in range(1, 41 if sample else 101)
            ]
            while not all(future.done() for future in futures):
                resident = 0
                for pid in processes_of(box.zygote_pids()) - set(box.zygote_pids()):
                    with contextlib.suppress(OSError):
                        statm = Path(f"/proc/{pid}/statm").read_text().split()
                        resident += (int(statm[1]) - int(statm[2])) * page
                peak = max(peak, resident)
            found |= {future.result().status for future in futures}
            if peak > 16 << 20:
                break
    assert found <= {Status.OOM, Status.TIMEOUT} and Status.OOM in found
    assert 16 << 20 < peak < 2 * 4 * (64 + 32) << 20
