"""Runs that are killed, stopped or starved of disk, and go on as if nothing had happened."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from azr_jax.model.sharding import MeshConfig, make_mesh
from azr_jax.policy import load_policy
from azr_jax.report.metrics import Row, read_rows

ROOT = Path(__file__).resolve().parent.parent
STEPS = 8
OF_THE_MACHINE = ("seconds/", "tokens_per_s", "sandbox/")
"""What may differ between two runs of one configuration."""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def start(small_gin: Path, compiled: Path) -> Start:
    """Starts `azr train` on one device, as the leader of a process group, as a shell does."""
    variables = {
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_FLAGS": "",
    }

    def start(directory: Path) -> subprocess.Popen[str]:
        flags = ["--gin_file", str(small_gin), "--run_dir", str(directory), "--steps", str(STEPS)]
        for binding in ("PlayConfig.batch_size = 2", "PlayConfig.seed_target = 0"):
            flags += ["--gin_bindings", binding]
        return subprocess.Popen(
            [sys.executable, "-m", "azr_jax", "train", *flags],
            cwd=ROOT,
            env=os.environ | variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    return start


def until_step(process: subprocess.Popen[str], directory: Path, step: int) -> None:
    """Waits until the run has logged a step; it must not end before."""
    while not any(row["step"] >= step for row in read_rows(directory / "metrics")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def finish(process: subprocess.Popen[str]) -> str:
    """Output of a process that ends well."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, out + err
    return out


def repeatable(rows: Iterator[Row]) -> list[Row]:
    return [
        {name: value for name, value in row.items() if not name.startswith(OF_THE_MACHINE)}
        for row in rows
    ]


def parameters(directory: Path) -> list[np.ndarray]:
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    return [np.asarray(x) for x in jax.tree.leaves(load_policy(str(directory), mesh).params)]


def test_killed_and_stopped_it_ends_like_an_unbroken_run(start: Start, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(whole))

    process = start(broken)
    until_step(process, broken, 2)
    process.kill()
    process.communicate()
    assert not (broken / "summary.json").exists()

    process = start(broken)
    until_step(process, broken, 5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to the sandbox, too
    out, err = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "resumed at step" in out
    assert "Traceback" not in err
    saved = max(int(path.name) for path in (broken / "checkpoints").iterdir())
    assert f"azr: saved step {saved}; the same command goes on from there" in err
    assert not (broken / "summary.json").exists()

    assert f"resumed at step {saved} of {STEPS}" in finish(start(broken))
    for folder in ("metrics", "samples"):
        rows = [repeatable(read_rows(run / folder)) for run in (whole, broken)]
        assert rows[0] == rows[1]
    assert [row["step"] for row in read_rows(broken / "metrics")] == list(range(STEPS))
    for a, b in zip(parameters(whole), parameters(broken), strict=True):
        np.testing.assert_array_equal(a, b)


# --- a full disk -------------------------------------------------------------------------------


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


def test_a_full_disk_is_told_and_loses_nothing(start: Start, small_disk: Path) -> None:
    run = small_disk / "run"
    process = start(run)
    until_step(process, run, 2)
    filler = fill(small_disk)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("azr: ")
    assert "the disk is full" in last or "has free space" in last

    filler.unlink()
    out = finish(start(run))
    assert "resumed at step" in out
    assert [row["step"] for row in read_rows(run / "metrics")] == list(range(STEPS))
