"""How fast is the sandbox here: programs per second and CPU per program, by kind of batch."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

from sandbox.box import Sandbox
from sandbox.jobs import Job, Limits

TEMPLATES = (
    "def f(n):\n    s = 0\n    for i in range(n):\n        s += i * {k}\n    return s",
    "def f(n):\n    d = {{}}\n    for i in range(n):\n        d[i] = i + {k}\n    return sorted(d)",
    "def f(n):\n    if n < 2:\n        return n + {k}\n    return f(n - 1) + f(n - 2)",
    "from collections import deque\ndef f(n):\n    q = deque(range(n))\n    q.rotate({k})\n"
    "    return list(q)",
    "import math\ndef f(n):\n    return [math.gcd(i, {k}) for i in range(n)]",
    "def f(n):\n    return ''.join(chr(97 + (i * {k}) % 26) for i in range(n))",
    "def f(n):\n    return [x for x in range(2, n + {k} % 7) if all(x % y for y in range(2, x))]",
    "def f(n):\n    return {{str(i): [i, i ** 2, i % 3 == {k} % 3] for i in range(n)}}",
)
LOOP = "def f(n):\n    while True:\n        n += {k}"
BOMB = "def f(n):\n    x = [{k}]\n    while True:\n        x.append(bytearray(1 << 20))"


def clean(count: int, inputs: int = 1, start: int = 0) -> list[Job]:
    """Programs that end, no two equal."""
    texts = tuple(str(8 + i) for i in range(inputs))
    return [
        Job(TEMPLATES[k % len(TEMPLATES)].format(k=k), texts) for k in range(start, start + count)
    ]


def mixed(count: int, start: int = 0) -> list[Job]:
    """2% endless loops, 1% memory bombs, the rest clean."""
    jobs = clean(count, start=start)
    for k in range(0, count, 100):
        for offset, code in ((10, LOOP), (60, LOOP), (35, BOMB)):
            if k + offset < count:
                jobs[k + offset] = Job(code.format(k=start + k + offset), ("8",))
    return jobs


def main() -> None:
    """Print the table."""
    limits = Limits(cpu_s=1.0, memory_mb=256)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'batch':34}{'programs/s':>12}{'us CPU/program':>16}{'calls/s':>12}")
    rows: tuple[tuple[str, Callable[[int], list[Job]], int], ...] = (
        ("clean, 1 input", lambda s: clean(1000, 1, s), 1),
        ("clean, 10 inputs per program", lambda s: clean(500, 10, s), 10),
        ("2% loops, 1% bombs, 1 s CPU", lambda s: mixed(200, s), 1),
    )
    with Sandbox(limits=limits) as box:
        box.run(clean(50, start=10**6))
        for number, (name, make, inputs) in enumerate(rows):
            jobs = make(number * 10**5)
            before, started = cpu_seconds(box), time.monotonic()
            box.run(jobs)
            seconds = time.monotonic() - started
            cpu = cpu_seconds(box) - before
            rate = len(jobs) / seconds
            print(f"{name:34}{rate:12.0f}{cpu / len(jobs) * 1e6:16.0f}{rate * inputs:12.0f}")


def cpu_seconds(box: Sandbox) -> float:
    """CPU time so far of this process, of the zygotes and of their children. Linux only."""
    ticks = 0
    for pid in box.zygote_pids():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))  # its own and its children's, user and system
    own = resource.getrusage(resource.RUSAGE_SELF)
    return ticks / os.sysconf("SC_CLK_TCK") + own.ru_utime + own.ru_stime
