"""Runs of several processes on this machine, with gloo between them, against one of one process."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from azr_jax.evals.harness import BENCHMARKS
from azr_jax.learn.checkpoint import load_meta, load_params
from azr_jax.learn.state import abstract_params
from azr_jax.model.config import ModelConfig
from azr_jax.model.sampler import Sampler
from azr_jax.model.sharding import MeshConfig, make_mesh
from azr_jax.model.transformer import Transformer
from azr_jax.report.metrics import read_rows
from azr_jax.selfplay.triplet import (
    TASK_TYPES,
    ZERO_INDUCTION_TASK,
    ZERO_TRIPLET,
    task_to_json,
)
from azr_jax.train import train
from tests.until import PATIENCE_S, until

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "tests" / "hosts" / "recorded.py"
HEARTBEAT_S = 8
BINDINGS = (
    "PlayConfig.batch_size = 2",
    "PlayConfig.seed_target = 2",
    "RunConfig.save_every = 1",
    "RunConfig.keep_every = 1",
)
STEPS = "TOTAL_STEPS = 2"
MEASURED = (
    "EvalConfig.test = 'tiny-test'",
    "EvalConfig.dev = 'tiny-dev'",
    "EvalConfig.samples = 3",
    "EvalConfig.dev_samples = 2",
    "EvalConfig.temperatures = (0.5, 1.0)",
    "EvalConfig.every = 1",
)
WITHIN = 1e-5

OpenRun = Callable[..., Any]


@dataclass
class Group:
    """The processes of one run; each writes what it says to a file of its own."""

    processes: list[subprocess.Popen[bytes]]
    logs: list[Path]

    def said(self, index: int) -> str:
        return self.logs[index].read_text(errors="replace")

    def wait(self, index: int) -> int:
        try:
            return self.processes[index].wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"process {index} does not end:\n{self.said(index)}")

    def finish(self) -> None:
        for index in range(len(self.processes)):
            assert self.wait(index) == 0, self.said(index)

    def last_line(self, index: int) -> str:
        """What its log ends with, once nobody writes to it any more."""

        def line() -> str:
            return (self.said(index).strip().splitlines() or [""])[-1]

        until(lambda: line().startswith("azr: "))
        return line()


Start = Callable[..., Group]


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """Three tasks, those that play starts from."""
    path, rows = tmp_path / "tasks.jsonl", []
    for name in TASK_TYPES:
        task = ZERO_INDUCTION_TASK if name == "induction" else ZERO_TRIPLET
        row = {"id": name, "task_type": name, "category": "level 1", "task": task_to_json(task)}
        rows.append(json.dumps(row) + "\n")
    path.write_text("".join(rows))
    return path


@pytest.fixture
def start(small_gin: Path, compiled: Path, benchmark: Path, tmp_path: Path) -> Iterator[Start]:
    """`start(run_dir, count, bindings=…, own=…)`: a run of `count` processes of one device each."""
    groups: list[Group] = []
    tasks = str(benchmark)

    def start(
        directory: Path,
        count: int,
        *bindings: str,
        own: Sequence[Sequence[str]] = (),
        devices: int = 1,
    ) -> Group:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        variables = {
            "JAX_COMPILATION_CACHE_DIR": str(compiled),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "PYTHONPATH": str(ROOT),
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        }
        group = Group([], [])
        for index in range(count):
            name = f"{directory.name}-{len(groups)}-{index}"
            flags = ["--gin_file", str(small_gin), "--run_dir", str(directory)]
            flags += ["--coordinator", address, "--processes", str(count)]
            flags += ["--process_id", str(index), "--heartbeat_s", str(HEARTBEAT_S)]
            given = (*BINDINGS, *bindings, *(own[index] if own else ()))
            flags += [f"--gin_bindings={binding}" for binding in given]
            group.logs.append(tmp_path / f"{name}.log")
            with group.logs[-1].open("wb") as log:
                group.processes.append(
                    subprocess.Popen(
                        [sys.executable, str(RECORDED), f"{tmp_path / name}.tokens", tasks, *flags],
                        cwd=ROOT,
                        env=os.environ | variables,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                )
        groups.append(group)
        return group

    yield start
    for group in groups:
        for process in group.processes:
            process.kill()
            process.wait()


def tokens(path: Path, steps: Sequence[int] = (0, 1)) -> list[Any]:
    """What was sampled in these steps, in the order in which it was."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in rows if row[0][0] in steps]


@dataclass
class Alone:
    """A run of one process, on as many devices: its directory, and what it sampled."""

    directory: Path
    tokens: list[Any]


def run_alone(
    open_small: OpenRun, place: Path, benchmark: Path, *bindings: str, devices: int
) -> Alone:
    spec = importlib.util.spec_from_file_location("recorded", RECORDED)
    assert spec is not None and spec.loader is not None
    recorded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recorded)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sampler, "stream", recorded.record(place / "alone.tokens"))
        for name in BENCHMARKS:
            patch.setitem(BENCHMARKS, name, benchmark)
        given = (*BINDINGS, *bindings, STEPS)
        with open_small(place / "alone", *given, devices=devices) as run:
            train(run)
    return Alone(place / "alone", tokens(place / "alone.tokens"))


def assert_same_updates(found: Path, alone: Path) -> None:
    """The parameters and the buffers after each of the first two steps."""
    model = Transformer(ModelConfig.from_json(load_meta(alone)["model"]))
    target = abstract_params(model, make_mesh(MeshConfig(), jax.devices()[:1]))
    for step in ("1", "2"):
        steps = [directory / "checkpoints" / step for directory in (found, alone)]
        arrays, wanted = (load_params(path, target)[0] for path in steps)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=WITHIN), arrays, wanted)
        games = [json.loads((path / "play" / "data.json").read_text())["play"] for path in steps]
        assert games[0] == games[1]


def until_saved(group: Group, directory: Path, step: int) -> None:
    """Waits until a step is saved, so that the next one has begun."""

    def saved() -> bool:
        ended = [group.said(i) for i, p in enumerate(group.processes) if p.poll() is not None]
        assert not ended, ended
        return (directory / "checkpoints" / str(step)).is_dir()

    until(saved)


# --- one story: two processes, a kill, a resume, a signal, one process ----------------------------


def test_two_processes_learn_what_one_does_and_survive_a_kill_and_a_signal(
    open_small: OpenRun, start: Start, benchmark: Path, tmp_path: Path
) -> None:
    alone = run_alone(open_small, tmp_path, benchmark, devices=2)
    directory = tmp_path / "pair"

    # The second process is killed while they sample for the third step or a later one.
    pair = start(directory, 2, "TOTAL_STEPS = 500")
    until_saved(pair, directory, 2)
    pair.processes[1].kill()
    assert pair.wait(0) == 1
    assert re.match(r"azr: lost process 1 \(.*\): no heartbeat for 8 s while ", pair.last_line(0))
    assert "the same command on all hosts goes on" in pair.last_line(0)
    assert "azr: process 1" in pair.last_line(1)  # its last words

    # Until then both did what one process does on the same mesh.
    for index in range(2):
        assert tokens(tmp_path / f"pair-0-{index}.tokens") == alone.tokens
    assert_same_updates(directory, alone.directory)

    # The same command goes on; a signal to one of them ends both, with the same step saved.
    newest = max(int(path.name) for path in (directory / "checkpoints").iterdir())
    pair = start(directory, 2, "TOTAL_STEPS = 500")
    until_saved(pair, directory, newest + 1)
    pair.processes[1].send_signal(signal.SIGTERM)
    assert [pair.wait(index) for index in range(2)] == [1, 1]
    assert f"resumed at step {newest} of 500" in pair.said(0)
    lines = {pair.last_line(index) for index in range(2)}
    found = re.fullmatch(r"azr: saved step (\d+); the same command goes on from there", *lines)
    assert found and int(found[1]) > newest

    # Only the first wrote: every step once, in order.
    logged = [row["step"] for row in read_rows(directory / "metrics")]
    assert logged == list(range(int(found[1])))

    # One process goes on where two were.
    more = f"TOTAL_STEPS = {int(found[1]) + 1}"
    with open_small(directory, *BINDINGS, more, devices=2) as run:
        assert train(run)["steps"] == int(found[1]) + 1


def test_another_configuration_is_refused_by_all(start: Start, tmp_path: Path) -> None:
    own = (["RunConfig.seed = 1"], ["RunConfig.seed = 2"])
    pair = start(tmp_path / "run", 2, own=own)
    assert [pair.wait(index) for index in range(2)] == [2, 2]
    for index in range(2):
        assert re.match(
            r"azr: process 1 \(.*\) has RunConfig.seed = 2, process 0 \(.*\) has 1: ",
            pair.last_line(index),
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.soak
def test_four_processes_learn_what_one_does_and_take_over_from_two(
    open_small: OpenRun, start: Start, benchmark: Path, tmp_path: Path
) -> None:
    alone = run_alone(open_small, tmp_path, benchmark, *MEASURED, devices=4)
    four = start(tmp_path / "four", 4, STEPS, *MEASURED)
    four.finish()
    for index in range(4):
        assert tokens(tmp_path / f"four-0-{index}.tokens") == alone.tokens
    assert_same_updates(tmp_path / "four", alone.directory)
    for name in ("before", "after"):
        both = [d / "heldout" / f"{name}.json" for d in (tmp_path / "four", alone.directory)]
        assert both[0].read_text() == both[1].read_text()

    directory = tmp_path / "two"
    start(directory, 2, STEPS, devices=2).finish()
    assert_same_updates(directory, alone.directory)
    more = start(directory, 4, "TOTAL_STEPS = 3")
    more.finish()
    assert "resumed at step 2 of 3" in more.said(0)
