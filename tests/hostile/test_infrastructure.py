"""Faults of the host, injected: none of them scores a program, hangs a batch or leaves a process.

Each fault is set up in a process of its own, so that it hits the sandbox as a whole.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox import Job, Limits, Sandbox, Status
from tests.until import PATIENCE_S, until

ROOT = Path(__file__).parents[2]
LIMITS = Limits(cpu_s=0.15, wall_s=30.0, memory_mb=64)
Done = subprocess.CompletedProcess[str]
HEAD = """
import contextlib, ctypes, json, os, resource, struct, sys, time
from sandbox import *
LIMITS = Limits(cpu_s=0.15, wall_s=30.0, memory_mb=64)
GOOD = [Job("def f(x): return [x, %d]" % k, (str(k),)) for k in range(20)]
def show(outcomes):
    print(json.dumps([[o.status.value, *o.outputs] for o in outcomes]), flush=True)
RIGHT = [("OK", "[%d, %d]" % (k, k)) for k in range(20)]
def right(outcomes):
    return [(o.status.value, *o.outputs) for o in outcomes] == RIGHT
def lost(outcomes):
    return all(o.status is Status.INFRA or (o.status.value, *o.outputs) == r
               for o, r in zip(outcomes, RIGHT, strict=True))
"""
PARENT = (
    HEAD
    + """
box = Sandbox(limits=Limits(cpu_s=60.0, wall_s=600.0), workers=2)
for k in range(8): box.submit(Job(f'def f():\\n while True: {k}', ('',)))
while box.stats()["busy"] < 2 or len(box.zygote_pids()) < 2: time.sleep(0.01)
print(*box.zygote_pids(), flush=True)
time.sleep(600)
"""
)


def in_a_process(script: str, **options: object) -> str:
    """What the script prints; a batch that hangs is a failure."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + script], cwd=ROOT, text=True, capture_output=True,
        timeout=PATIENCE_S, **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Process:
    """A live process, who started it, its session, and the CPU seconds that it has had."""

    pid: int
    parent: int
    session: int
    cpu_s: float


def live() -> Iterator[Process]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in "ZX":
            cpu_s = (int(fields[11]) + int(fields[12])) / TICKS
            yield Process(int(stat.parent.name), int(fields[1]), int(fields[3]), cpu_s)


def in_sessions(sessions: set[int]) -> list[Process]:
    """Zygotes and all that they forked."""
    return [process for process in live() if process.session in sessions]


def assert_gone(sessions: set[int], spent_s: float) -> None:
    """Two seconds are what is promised: of CPU for what spins, the machine may be busy.

    spent_s: what each had taken at most when the end came.
    """

    def gone() -> bool:
        left = in_sessions(sessions)
        assert all(process.cpu_s < spent_s + 2 for process in left), left
        return not left

    until(gone)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_trainer(number: signal.Signals) -> None:
    trainer = subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    with trainer:
        sessions = set(map(int, trainer.stdout.readline().split()))
        # Two zygotes and their running children.
        until(lambda: len(in_sessions(sessions)) >= 4, trainer)
        spent_s = max(process.cpu_s for process in in_sessions(sessions))
        os.killpg(trainer.pid, number)
        trainer.wait(timeout=PATIENCE_S)
    assert_gone(sessions, spent_s)


def test_interrupted_batch(tmp_path: Path) -> None:
    """Ctrl-C reaches the whole process group; the command ends, without a traceback."""
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text('{"id": 1, "code": "def f():\\n while True: pass", "inputs": [""]}\n')
    command = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "run", str(jobs), "--cpu_s", "600"], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True,
    )  # fmt: skip
    with command:
        sessions: set[int] = set()
        spent_s = 0.0

        def spinning() -> bool:
            """A zygote's child has run for longer than those by which the walls are tried."""
            nonlocal spent_s
            processes = list(live())
            sessions.update(
                p.pid for p in processes if p.pid == p.session and p.parent == command.pid
            )
            spent_s = max((p.cpu_s for p in processes if p.parent in sessions), default=0.0)
            return spent_s > 0.3

        until(spinning, command)
        os.killpg(command.pid, signal.SIGINT)
        out, error = command.communicate(timeout=PATIENCE_S)
    assert command.returncode not in (0, 2) and out == ""
    assert "Traceback" not in error and error.count("\n") <= 1
    assert_gone(sessions, spent_s)


def test_fault_of_the_dispatcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of our own costs a verdict (INFRA), and neither the batch nor the ones after."""
    import sandbox.box

    read_records, faults = sandbox.box.read_records, [True]

    def fail_once(*arguments: object) -> object:
        if faults:
            raise RuntimeError(f"injected {faults.pop()}")
        return read_records(*arguments)

    with Sandbox(limits=LIMITS, workers=2, cache_size=0) as box:
        monkeypatch.setattr("sandbox.box.read_records", fail_once)
        jobs = [Job(f"def f(): return {k}", ("",)) for k in range(10)]
        futures = [box.submit(job) for job in jobs]
        first = [future.result(timeout=PATIENCE_S) for future in futures]
        assert {o.status for o in first} <= {Status.OK, Status.INFRA}
        assert [o.status for o in first].count(Status.INFRA) == 1
        second = [future.result(timeout=PATIENCE_S) for future in [box.submit(job) for job in jobs]]
        assert [o.outputs for o in second] == [(str(k),) for k in range(10)]


def test_no_descriptors_left() -> None:
    """With one zygote up and room for none other, the batch comes back, nothing is forged."""
    script = """
box = Sandbox(limits=LIMITS, workers=1, cache_size=0)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
held = []
with contextlib.suppress(OSError):
    while True: held.append(os.dup(0))
first = box.run(GOOD)
for pid in box.zygote_pids(): os.kill(pid, 9)
second = box.run(GOOD)
for fd in held: os.close(fd)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(right(first), lost(second), right(box.run(GOOD)))
box.close()
"""
    assert in_a_process(script).split() == ["True", "True", "True"]


def test_no_process_can_be_forked(nobody: Callable[..., Done]) -> None:
    """fork fails in a zygote: another one takes over. In the parent too: INFRA, until it can."""
    script = """
box = Sandbox(limits=LIMITS, workers=1, cache_size=0)
soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
for pid in box.zygote_pids(): resource.prlimit(pid, resource.RLIMIT_NPROC, (0, 0))
first, lost_zygotes = box.run(GOOD), box.stats()["zygotes_lost"]
resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
for pid in box.zygote_pids(): os.kill(pid, 9)
second, failures = box.run(GOOD), box.stats()["infra_failures"]
resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
print(right(first), lost_zygotes > 0, lost(second), failures > 0, right(box.run(GOOD)))
"""
    done = nobody("-c", HEAD + script)
    assert done.stdout.split() == ["True"] * 5, done.stdout + done.stderr


def test_nothing_can_be_written() -> None:
    """A full disk: no file of ours or of the interpreter's is needed."""
    script = """
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
os.environ["TMPDIR"] = "/nonexistent"
os.chdir("/")
with Sandbox(limits=LIMITS, workers=2, cache_size=0) as box:
    print(right(box.run(GOOD)))
"""
    path = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    assert in_a_process(script, env=path).split() == ["True"]


def test_the_clock_is_set() -> None:
    """The wall clock of the parent leaps back and forth between any two looks at it."""
    script = """
import itertools
leaps = itertools.count()
time.time = lambda: 1e9 * (next(leaps) % 2)
time.time_ns = lambda: int(time.time() * 1e9)
with Sandbox(limits=LIMITS, workers=2, cache_size=0) as box:
    sleeper = Job("import time\\ndef f():\\n    time.sleep(0.3)\\n    return 1", ("",))
    outcomes = box.run([*GOOD, sleeper])
    print(right(outcomes[:-1]), outcomes[-1].outputs[0])
"""
    assert in_a_process(script).split() == ["True", "1"]


MISSING = """
# A seccomp filter over the whole sandbox that answers one system call with an error.
def without(number, first=None, errno=38):
    load, jeq, ret = 0x20, 0x15, 0x06
    code = [(load, 0, 0, 0), (jeq, 0, 1 if first is None else 3, number)]
    if first is not None:
        code += [(load, 0, 0, 16), (jeq, 0, 1, first)]
    code += [(ret, 0, 0, 0x50000 | errno), (ret, 0, 0, 0x7FFF0000)]
    raw = b"".join(struct.pack("<HBBI", *line) for line in code)
    buffer = ctypes.create_string_buffer(raw, len(raw))
    fprog = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.addressof(fprog), 0, 0) == 0
arm = os.uname().machine == "aarch64"
without({call})
try:
    Sandbox(limits=LIMITS, workers=1, level={level})
except SandboxUnavailable as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("level", "call", "name"),
    [
        (2, "(167 if arm else 157), 22, 22", "seccomp"),
        (3, "(167 if arm else 157), 22, 22", "seccomp"),
        (2, "(167 if arm else 157), 38, 22", "PR_SET_NO_NEW_PRIVS"),
        (1, "(167 if arm else 157), 1, 22", "PR_SET_PDEATHSIG"),
        (1, "(107 if arm else 222)", "timer_create"),
        (1, "(261 if arm else 302), None, 1", "rlimits"),
        (3, "444", "landlock"),
        (3, "(97 if arm else 272), None, 1", "namespaces"),
    ],
)
def test_missing_primitive(level: int, call: str, name: str) -> None:
    """The level is refused, and the message names what is missing and what to do."""
    text = in_a_process(MISSING.format(call=call, level=level))
    assert name in text, text
    assert ("SANDBOX_LEVEL" in text) or level == 1
