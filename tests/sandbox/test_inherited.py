"""Verdicts do not depend on what the trainer's process was handed by the one that started it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

USE = """
import json, sys
from sandbox import Job, Limits, Sandbox
from sandbox.probe import require
jobs = [
    Job("def f(x): return x + 1", ("1",), deterministic=True),
    Job("def f(x):\\n while True: pass", ("1",)),
    Job("def f(x): return f(x)", ("1",)),
    Job("def f(x): return len('x' * 10**9)", ("1",)),
    Job("import json\\ndef f(x): return json.dumps(x)", ("1",)),
    Job("def f(x): return id(f)", ("1",), deterministic=True),
    Job("import time\\ndef f(x):\\n time.sleep(1e6)", ("1",), limits=Limits(cpu_s=5, wall_s=0.3)),
]
with Sandbox(limits=Limits(cpu_s=0.3, wall_s=60.0, memory_mb=128), level=LEVEL) as box:
    found = [o.status.name for o in box.run(jobs)]
with open(OUT, "w") as out:
    json.dump(found, out)
"""
STATUSES = '["OK", "TIMEOUT", "RAISED", "OOM", "OK", "NONDETERMINISTIC", "TIMEOUT"]'
EVERY_SIGNAL = "signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}"


def use(tmp_path: Path, before: str, level: int = 2, **environment: str) -> str:
    """The statuses of a batch in a process that has done `before`."""
    out = tmp_path / "out"
    out.unlink(missing_ok=True)
    head = "import json, os, resource, signal, sandbox.probe"
    script = f"{head}\n{before}\nLEVEL, OUT = {level}, {str(out)!r}\n{USE}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **environment},
        text=True,
        capture_output=True,
        timeout=600,
    )
    return out.read_text() if out.exists() else done.stderr


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize(
    "before",
    [
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        f"for n in {EVERY_SIGNAL}: signal.signal(n, signal.SIG_IGN)",
        f"signal.pthread_sigmask(signal.SIG_BLOCK, {EVERY_SIGNAL})",
        "import ctypes; ctypes.CDLL(None).personality(0x0040000)  # no random addresses",
        "os.close(0)",
        "os.close(0); os.close(1); os.close(2)",
        "for n in range(200): os.set_inheritable(os.dup(0), True)",
        "os.umask(0o777)",
        "os.nice(5)",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))",
        "resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, resource.RLIM_INFINITY))",
        "resource.setrlimit(resource.RLIMIT_CPU, (30, resource.RLIM_INFINITY))",
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 30))",
        "resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30))",
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 31, resource.RLIM_INFINITY))",
    ],
)
def test_verdicts_are_the_same(tmp_path: Path, before: str, level: int) -> None:
    assert use(tmp_path, before, level) == STATUSES


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONINSPECT": "1", "PYTHONSTARTUP": "/nowhere", "PYTHONWARNINGS": "error"},
        {"PYTHONINTMAXSTRDIGITS": "0", "PYTHONMALLOC": "debug", "PYTHONUTF8": "0"},
        {"PYTHONHASHSEED": "7", "PYTHONOPTIMIZE": "2", "PYTHONDEVMODE": "1"},
        {"TMPDIR": "/nowhere", "LC_ALL": "C", "LANG": "xx_YY", "TZ": "Nowhere/Else"},
        {"MALLOC_PERTURB_": "7", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPLATLIBDIR": "x"},
    ],
    ids=lambda names: ",".join(names),
)
def test_no_variable_reaches_a_program(tmp_path: Path, environment: dict[str, str]) -> None:
    environment = {k: v for k, v in environment.items() if k != "PYTHONPLATLIBDIR"}
    assert use(tmp_path, "", **environment) == STATUSES


def test_a_folder_that_is_gone_is_no_obstacle(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    before = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"os.mkdir({str(gone)!r}); os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})"
    )
    assert use(tmp_path, before) == STATUSES


def test_a_hard_limit_that_cannot_be_raised_is_named(tmp_path: Path) -> None:
    """For who lacks CAP_SYS_RESOURCE a hard limit is final."""
    if sys.platform != "linux":
        pytest.skip("capabilities are Linux's")
    drop = "import ctypes; ctypes.CDLL(None).prctl(24, 24, 0, 0, 0)"  # from the bounding set
    enough = f"resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n{drop}"
    assert use(tmp_path, enough) == STATUSES
    too_low = f"resource.setrlimit(resource.RLIMIT_AS, (120 << 20, 120 << 20))\n{drop}"
    said = use(tmp_path, too_low)
    assert "inherited is too low: ulimit" in said
    assert "Sandbox(level=1)" not in said, "a lower level needs limits, too"
