"""The hostile suite without a test framework: programs, canaries, and what has to hold after them.

``python -m tests.hostile.suite --level 2 [--good N] [--every] [--lean]`` runs it in any
interpreter that runs the sandbox, as any user; prints one line per violation, and exits with 1
if there is one, with 3 if the level is not to be had here.

A program's file opens with a title, its class, the cases it stands for, the levels it may run at
(2 and 3 unless said: level 1 puts no wall around files and processes), the statuses it may have,
limits of its own (cpu_s; wall_s of those that only wait), and its inputs, where ``$PID``,
``$PORT``, ``$NAME`` and ``$TREE`` become things to attack. A value it returns is only a claim; one
that holds the word "escaped" means that a wall did not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from sandbox import Job, Limits, Outcome, Sandbox, SandboxUnavailable, Status

PROGRAMS = Path(__file__).parent / "programs"
LIMITS = Limits(cpu_s=0.15, wall_s=20.0, memory_mb=64)
SPIN_CPU_S = 0.05
"""For the class cpu, most of which never ends."""
WORKERS = 4
_MARK = "hostile_canary"
_MEMORY_GROWTH_KIB = 4096


@dataclass(frozen=True)
class Case:
    """One hostile program."""

    name: str
    numbers: tuple[int, ...]
    levels: tuple[int, ...]
    allowed: frozenset[Status]
    code: str
    inputs: tuple[str, ...]
    deterministic: bool
    limits: Limits

    def job(self, canary: Canary) -> Job:
        """The job, aimed at the canaries."""
        inputs = tuple(canary.aim(text) for text in self.inputs)
        return Job(
            self.code, inputs, deterministic=self.deterministic, id=self.name, limits=self.limits
        )


def load(path: Path) -> Case:
    """A program's file; raises KeyError or ValueError where its header is not complete."""
    code = path.read_text(encoding="utf-8")
    fields = {}
    for line in code.splitlines()[1:]:
        if not line.startswith("# ") or ": " not in line:
            break
        name, _, value = line[2:].partition(": ")
        fields[name] = value
    usual_cpu_s = SPIN_CPU_S if fields.pop("class") == "cpu" else LIMITS.cpu_s
    case = Case(
        name=path.stem,
        numbers=tuple(map(int, fields.pop("cases").split())),
        levels=tuple(map(int, fields.pop("levels", "2 3").split())),
        allowed=frozenset(map(Status, fields.pop("allowed").split())),
        code=code,
        inputs=tuple(json.loads(fields.pop("inputs"))),
        deterministic=fields.pop("deterministic", "false") == "true",
        limits=replace(
            LIMITS,
            cpu_s=float(fields.pop("cpu_s", usual_cpu_s)),
            wall_s=float(fields.pop("wall_s", LIMITS.wall_s)),
        ),
    )
    if fields:
        raise ValueError(f"{path.name}: {sorted(fields)} in its header")
    return case


CASES = [load(path) for path in sorted(PROGRAMS.glob("*.py"))]


class Canary:
    """Things that no program may reach: a folder, two listeners, and a secret in this process."""

    def __init__(self) -> None:
        self.tree = Path(tempfile.mkdtemp(prefix="canary-"))
        self.tree.chmod(0o777)
        (self.tree / "bait").write_text("bait")
        self.secret = "k4n4ry" + secrets.token_hex(12)
        os.environ["HOSTILE_SUITE_SECRET"] = self.secret
        self._name = f"canary-{secrets.token_hex(6)}"
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._unix = socket.socket(socket.AF_UNIX)
        self._unix.bind("\0" + self._name)
        self._unix.listen()
        for listener in (self._tcp, self._unix):
            listener.setblocking(False)

    def __enter__(self) -> Canary:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tcp.close()
        self._unix.close()
        os.environ.pop("HOSTILE_SUITE_SECRET", None)
        shutil.rmtree(self.tree, ignore_errors=True)

    def aim(self, text: str) -> str:
        """Input text with the addresses of what there is to attack."""
        port = str(self._tcp.getsockname()[1])
        words = {"$PID": str(os.getpid()), "$PORT": port, "$NAME": self._name}
        words["$TREE"] = str(self.tree)
        for word, value in words.items():
            text = text.replace(word, value)
        return text

    def touched(self) -> Iterator[str]:
        """What has been reached."""
        if [p.name for p in self.tree.iterdir()] != ["bait"]:
            yield f"a file was made in {self.tree}"
        if (self.tree / "bait").read_text() != "bait":
            yield "a file was changed"
        for folder in {tempfile.gettempdir(), Path.home(), Path.cwd(), "/dev/shm", "/"}:
            if (Path(folder) / _MARK).exists() or (Path(folder) / _MARK).is_symlink():
                yield f"a file was made in {folder}"
        for listener in (self._tcp, self._unix):
            try:
                listener.accept()
            except BlockingIOError:
                continue
            yield "a listener was reached"


class Watch:
    """A sandbox's processes, descriptors and memory, compared with what they were at first."""

    def __init__(self, box: Sandbox) -> None:
        self._box = box
        self._infra = box.stats()["INFRA"]
        self._before = {pid: _footprint(pid) for pid in [os.getpid(), *box.zygote_pids()]}

    def grown(self, patience_s: float = 30.0) -> Iterator[str]:
        """What is more than it was; the last children are given time to end."""
        deadline = time.monotonic() + patience_s
        while True:
            zygotes = self._box.zygote_pids()
            alive = processes_of(zygotes)
            # Beyond the zygotes themselves: for each of them one child that waits for its job.
            extra = len(alive) - 2 * len(zygotes)
            if extra <= 0 or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        if extra > 0:
            yield f"{extra} processes too many"
        if not set(zygotes) <= alive:
            yield "the suite does not see the sandbox's processes"
        for pid, (descriptors, kib) in self._before.items():
            if pid in (os.getpid(), *zygotes):
                now_descriptors, now_kib = _footprint(pid)
                mine = pid == os.getpid()
                if now_descriptors > descriptors + (6 * len(zygotes) if mine else 0):
                    yield f"{now_descriptors} descriptors, at first {descriptors}"
                if not mine and now_kib > kib + _MEMORY_GROWTH_KIB:
                    yield f"a zygote has {now_kib} KiB, at first {kib}"
        stats = self._box.stats()
        if stats["INFRA"] != self._infra or stats["infra_failures"]:
            yield "verdicts were lost"


def processes_of(zygotes: Sequence[int]) -> set[int]:
    """Live processes that were forked below the zygotes, or carry their command line."""
    parents, found = {}, set(zygotes)
    me = str(os.getpid()).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if stat[0] in "ZX":
            continue
        pid = int(entry.name)
        parents[pid] = int(stat[1])
        if int(stat[3]) in zygotes or (me in words and any(b"sandbox.child" in w for w in words)):
            found.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found & parents.keys()


def _footprint(pid: int) -> tuple[int, int]:
    """Open descriptors (0 where they are hidden from this user) and resident KiB."""
    try:
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        descriptors = 0
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        pages = 0
    return descriptors, pages * os.sysconf("SC_PAGESIZE") // 1024


def good_jobs(count: int, secret: str) -> list[Job]:
    """Programs whose verdicts no neighbour may change; each carries the secret."""
    templates = (
        "import math, re, json\ndef f(n, s):\n    return [math.gcd(n, {k}), json.dumps({k}),"
        " re.sub('a', 'b', 'aa'), repr(n), len(s)]",
        "from collections import deque\ndef f(n, s):\n    line = deque(range({k} % 50))\n"
        "    return sorted(line, key=lambda v: -v) + [n, 'k' in s]",
        "def f(n, s):\n    return {{'k': {{n, {k}}}, 2.5 * n: (None, b'x', s[:3])}}",
        "import random, string\ndef f(n, s):\n    return [random.Random(n).random(), {k},"
        " string.ascii_letters[n % 52], isinstance(n, int)]",
        "def f(n, s):\n    if n == 12:\n        raise KeyError({k})\n    return str(n) * 3",
    )
    return [
        Job(
            templates[k % len(templates)].format(k=k) + f"  # {secret}",
            (f"{k}, {secret!r}", f"12, {secret!r}"),
            id=f"good {k}",
        )
        for k in range(count)
    ]


def content(outcome: Outcome) -> tuple[object, ...]:
    """All of an outcome but what it cost."""
    return outcome.status, outcome.statuses, outcome.outputs, outcome.error, outcome.inputs


def judge(case: Case, outcome: Outcome, secret: str) -> Iterator[str]:
    """What is wrong with a hostile program's outcome."""
    # The number of inputs that a killing input leaves unrun does not change the count.
    if not len(outcome.statuses) == len(outcome.outputs) == len(case.inputs):
        yield f"{len(outcome.statuses)} verdicts on {len(case.inputs)} inputs"
    if not {outcome.status, *outcome.statuses} <= case.allowed:
        yield f"{outcome.status} {outcome.statuses}: {outcome.error}"
    words = [*outcome.outputs, *outcome.inputs, outcome.error]
    if any("escaped" in (word or "") for word in outcome.outputs):
        yield f"a wall did not hold: {outcome.outputs}"
    if any(secret in (word or "") for word in words):
        yield "the secret came out"
    if Status.TIMEOUT in outcome.statuses:
        # The kernel's CPU clock ticks every 1 to 10 ms; the harness around a call costs a little.
        calls = len(case.inputs) * (2 + 2 * case.deterministic)
        if outcome.cpu_ms > calls * (1.1 * case.limits.cpu_s * 1e3 + 30) + 100:
            yield f"{outcome.cpu_ms} ms of CPU"


def run(
    box: Sandbox,
    cases: Sequence[Case],
    canary: Canary,
    good: int = 0,
    every: bool = False,
    lean: bool | None = None,
) -> dict[str, list[str]]:
    """Violations by program; key "": of all together.

    With `good`, each program runs among as many good ones, whose verdicts are compared with those
    of a clean run. With `every`, the canaries and processes are looked at after each program. With
    `lean`, all begin in zygotes of that kind, whatever their text says.
    """

    def outcomes_of(jobs: Sequence[Job]) -> list[Outcome]:
        return [future.result() for future in [box.submit_to(job, lean) for job in jobs]]

    neighbours = good_jobs(good * len(cases), canary.secret)
    clean = [content(o) for o in outcomes_of(neighbours)]
    watch = Watch(box)
    found: dict[str, list[str]] = {"": []}
    batches = [[case] for case in cases] if every else [list(cases)]
    done = 0
    for batch in batches:
        jobs: list[Job] = []
        for case in batch:
            jobs += neighbours[done + len(jobs) - len(jobs) // (good + 1) :][:good]
            jobs.append(case.job(canary))
        outcomes = outcomes_of(jobs)
        hostile = outcomes[good :: good + 1]
        beside = [content(o) for i, o in enumerate(outcomes) if i % (good + 1) != good]
        if beside != clean[done : done + len(beside)]:
            found[""].append(f"a good verdict changed beside {[c.name for c in batch]}")
        done += len(beside)
        for case, outcome in zip(batch, hostile, strict=True):
            found[case.name] = list(judge(case, outcome, canary.secret))
        found["" if len(batch) > 1 else batch[0].name] += [*canary.touched(), *watch.grown()]
    return found


def sandbox_at(level: int) -> Sandbox | None:
    """A sandbox that remembers nothing; None where the kernel lacks what level 3 adds.

    Any other refusal is a defect and raised: a suite that skips what broke would show nothing.
    """
    try:
        return Sandbox(limits=LIMITS, level=level, workers=WORKERS, cache_size=0)
    except SandboxUnavailable as error:
        if level == 3 and ("missing landlock" in str(error) or "missing namespaces" in str(error)):
            return None
        raise


def main(argv: list[str] | None = None) -> int:
    """0: all walls hold; 1: some do not; 3: no such level here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("--good", type=int, default=1, help="good programs per hostile one")
    parser.add_argument("--every", action="store_true", help="look after each program")
    parser.add_argument("--lean", action="store_true", help="all in lean zygotes first")
    args = parser.parse_args(argv)
    cases = [case for case in CASES if args.level in case.levels]
    with Canary() as canary:
        box = sandbox_at(args.level)
        if box is None:
            print(f"level {args.level} is not to be had here")
            return 3
        with box:
            found = run(box, cases, canary, args.good, args.every, args.lean or None)
    for name, violations in found.items():
        for violation in violations:
            print(f"{name or 'all'}: {violation}")
    version = sys.version.split()[0]
    print(f"{len(cases)} programs at level {args.level} as uid {os.getuid()}, Python {version}")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
