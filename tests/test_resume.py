"""Runs that are killed, stopped or starved of disk, and go on as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from azr_jax.report.metrics import Row, read_rows
from azr_jax.selfplay.triplet import (
    TASK_TYPES,
    ZERO_INDUCTION_TASK,
    ZERO_TRIPLET,
    task_to_json,
)
from tests.until import PATIENCE_S, until

ROOT = Path(__file__).resolve().parent.parent
STEPS = 4
BINDINGS = (
    "PlayConfig.batch_size = 2",
    "PlayConfig.seed_target = 2",
    "RunConfig.save_every = 1",
    "RunConfig.keep = 1",
    "EvalConfig.test = 'tiny-test'",
    "EvalConfig.dev = 'tiny-dev'",
    "EvalConfig.samples = 1",
    "EvalConfig.dev_samples = 1",
    "EvalConfig.temperatures = (0.5, 1.0)",
    "EvalConfig.every = 2",
)
OF_THE_MACHINE = ("seconds", "tokens_per_s", "sandbox/")
"""What may differ between two runs of one configuration."""
NEVER = "file:call:0:0"

Start = Callable[..., subprocess.Popen[str]]


@dataclass
class Whole:
    """A run that nothing broke, and how often each point of `killed.py` was passed in it."""

    directory: Path
    counts: dict[str, int]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of runs; with a benchmark of three tasks."""
    place = tmp_path_factory.mktemp("runs")
    rows = []
    for name in TASK_TYPES:
        task = ZERO_INDUCTION_TASK if name == "induction" else ZERO_TRIPLET
        of = {"id": name, "task_type": name, "category": "level 1", "task": task_to_json(task)}
        rows.append(json.dumps(of) + "\n")
    (place / "tasks.jsonl").write_text("".join(rows))
    return place


@pytest.fixture(scope="module")
def start(small_gin: Path, compiled: Path, place: Path) -> Start:
    """Starts `azr train` on one device, as the leader of a process group, as a shell does."""
    variables = {
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "",
    }

    def start(directory: Path, moment: str = NEVER) -> subprocess.Popen[str]:
        flags = ["--gin_file", str(small_gin), "--steps", str(STEPS)]
        flags += [f"--gin_bindings={binding}" for binding in BINDINGS]
        script = [str(ROOT / "tests" / "killed.py"), str(place / "report.json"), moment]
        return subprocess.Popen(
            [sys.executable, *script, str(directory), *flags],
            cwd=ROOT,
            env=os.environ | variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    return start


@pytest.fixture(scope="module")
def whole(start: Start, place: Path) -> Whole:
    finish(start(place / "whole"))
    return Whole(place / "whole", json.loads((place / "report.json").read_text()))


@contextlib.contextmanager
def paused(process: subprocess.Popen[str], place: Path) -> Iterator[None]:
    """Within, the run waits at the moment that it was started with; the one before is saved."""
    mark = place / "paused"
    until(mark.exists, process)
    try:
        yield
    finally:
        mark.unlink()


def until_saved(directory: Path, step: int) -> None:
    """Until this step's checkpoint is whole: the thread that saves has nothing to do.

    For a paused run that keeps one checkpoint, and the one that is known to be good beside it.
    """
    wanted = ([str(step)], [str(step - 1), str(step)])
    until(lambda: sorted(path.name for path in (directory / "checkpoints").iterdir()) in wanted)


def finish(process: subprocess.Popen[str]) -> str:
    """Output of a process that ends well."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out + err
    return out


# --- kills -------------------------------------------------------------------------------------


def repeatable(value: Any) -> Any:
    """What two runs of one configuration have in common."""
    if isinstance(value, dict):
        names = (name for name in value if not str(name).startswith(OF_THE_MACHINE))
        return {name: repeatable(value[name]) for name in names}
    return value


def log(directory: Path, folder: str) -> list[Row]:
    return [repeatable(row) for row in read_rows(directory / folder)]


def assert_same(broken: Path, whole: Path) -> None:
    """Logs, measurements, buffers and the last state, bit for bit."""
    for folder in ("metrics", "samples"):
        assert log(broken, folder) == log(whole, folder)
    for name in ("heldout/before.json", "heldout/after.json", "summary.json"):
        found, wanted = (repeatable(json.loads((d / name).read_text())) for d in (broken, whole))
        assert {**found, "run": ""} == {**wanted, "run": ""}
    steps = [sorted(p.name for p in (d / "checkpoints").iterdir()) for d in (broken, whole)]
    assert steps[0] == steps[1]
    for step in steps[0]:
        found, wanted = (load(d / "checkpoints" / step) for d in (broken, whole))
        assert repeatable(found["play"]) == repeatable(wanted["play"])
        for item in ("params", "optimizer"):
            jax.tree.map(np.testing.assert_array_equal, found[item], wanted[item])


def load(step: Path) -> dict[str, Any]:
    """All that Orbax finds in a step directory."""
    found: dict[str, Any] = ocp.load_checkpointables(step)
    return found


KILLS = (
    *("save return", "sample return", "file", "propose", "file", "seal return", "update return"),
    *("measure", "file", "append return", "save", "file", "answer", "log", "file", "pack"),
    *("file file", "save restore", "sample+ file", "update+ append"),
)
"""Where each run is killed: at a call (or its return) of a point of `killed.py`, drawn at random;
`+`: up to half a second later. Two points: what goes on is killed, too."""


def moments(index: int, counts: dict[str, int]) -> list[str]:
    """The kills of one run as `killed.py` takes them."""
    draw = random.Random(index)
    found = []
    for word in KILLS[index].replace(" return", ":return").split():
        name, _, when = word.rstrip("+").partition(":")
        # What goes on has fewer calls before it than the whole run.
        most = counts[name] if not found else max(1, counts[name] // 4)
        seconds = draw.uniform(0, 0.5) if word.endswith("+") else 0
        found.append(f"{name}:{when or 'call'}:{draw.randint(1, most)}:{seconds:.3f}")
    return found


def check_kills(moments: list[str], start: Start, whole: Whole, directory: Path) -> None:
    killed = 0
    for moment in moments:
        process = start(directory, moment)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode in (0, -signal.SIGKILL), out + err
        killed += process.returncode == -signal.SIGKILL
    assert killed, "none of the moments came"
    finish(start(directory))
    assert_same(directory, whole.directory)


def test_a_run_killed_twice_ends_like_an_unbroken_one(
    start: Start, whole: Whole, tmp_path: Path
) -> None:
    kills = [moment for index in range(2) for moment in moments(index, whole.counts)]
    check_kills(kills, start, whole, tmp_path / "broken")


@pytest.mark.soak
@pytest.mark.parametrize("index", range(len(KILLS)), ids=[k.replace(" ", "_") for k in KILLS])
def test_kill_points(index: int, start: Start, whole: Whole, tmp_path: Path) -> None:
    check_kills(moments(index, whole.counts), start, whole, tmp_path / "broken")


# --- signals -----------------------------------------------------------------------------------


def test_stopped_from_a_terminal_it_saves_and_goes_on(
    start: Start, whole: Whole, place: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(run, "pack:call:2:pause")
    with paused(process, place):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to the sandbox, too
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, out + err
    assert "stopping; once more to end at once" in out
    assert err == "azr: saved step 1; the same command goes on from there\n"
    assert not (run / "summary.json").exists()
    assert f"resumed at step 1 of {STEPS}" in finish(start(run))
    assert_same(run, whole.directory)


# --- disks that do not take it -------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MB: enough for the checkpoints of a run."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(place)]
    if (
        sys.platform != "linux"
        or os.geteuid()
        or subprocess.run(mount, capture_output=True).returncode
    ):
        pytest.skip("mounting a small file system takes root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(65536)) > 0:
            pass
    return filler


@contextlib.contextmanager
def stopped(process: subprocess.Popen[str]) -> Iterator[None]:
    """The run stands still meanwhile: it cannot end before the disk is as it shall be."""
    os.killpg(process.pid, signal.SIGSTOP)
    yield
    os.killpg(process.pid, signal.SIGCONT)


def fails(process: subprocess.Popen[str], code: int) -> str:
    """The last line of a process that ends with that exit code, and no traceback."""
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("azr: ")
    return last


def test_a_full_and_a_read_only_disk_are_told_and_lose_nothing(
    start: Start, small_disk: Path, whole: Whole, place: Path
) -> None:
    run = small_disk / "run"
    process = start(run, "log:call:2:pause")
    with paused(process, place):
        until_saved(run, 1)
        filler = fill(small_disk)
    assert "the disk is full" in fails(process, 1)

    filler.unlink()
    process = start(run, "save:call:1:pause")
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    with paused(process, place):  # the logs are sealed: no file is open for writing
        until_saved(run, 1)
        until(lambda: subprocess.run(remount).returncode == 0)
    assert "ead-only" in fails(process, 1)
    # Before any work:
    assert re.search("cannot write the run directory .*Read-only file system", fails(start(run), 2))

    subprocess.run([*remount[:2], "remount,rw", str(small_disk)], check=True)
    assert "resumed at step" in finish(start(run))
    assert_same(run, whole.directory)
