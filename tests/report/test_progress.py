"""The live view on a terminal, the heartbeat elsewhere; odd rows break neither."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from azr_jax.report import progress as progress_module
from azr_jax.report.progress import Progress
from tests.until import until

ROW: dict[str, Any] = {
    "valid_proposals": 0.5,
    "solve_rate/deduction": 0.25,
    "solve_rate/abduction": None,
    "reward/propose/deduction": -0.5,
    "reward/solve/deduction": 1.0,
    "tokens_per_s": 4321.0,
    "sandbox/jobs_per_s": 120.0,
}


@pytest.fixture(autouse=True)
def _no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: 5.0))


def plain() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=80, force_terminal=False), file


def test_heartbeat_is_one_line_with_the_numbers() -> None:
    console, file = plain()
    with Progress("run", 2, heartbeat_s=1000.0, console=console) as progress:
        progress.step({"step": 0, **ROW})
        progress.step({"step": 1, **ROW})
    lines = file.getvalue().splitlines()
    assert [line.partition(" |")[0] for line in lines] == ["step 1/2", "step 2/2"]
    for part in ("valid 50%", "solve rate 0.25", "tokens/s 4321", "elapsed 0:00", "left 0:00"):
        assert part in lines[1]


def test_lines_are_spaced() -> None:
    console, file = plain()
    with Progress("run", 100, heartbeat_s=1000.0, console=console) as progress:
        for step in range(50):
            progress.step({"step": step, **ROW})
    assert len(file.getvalue().splitlines()) == 1


def test_a_long_phase_is_heard_of() -> None:
    console, file = plain()
    with Progress("run", 5, heartbeat_s=0.02, console=console) as progress:
        progress.phase("compiling")
        until(lambda: "compiling" in file.getvalue())
    assert "step 0/5 | compiling for 0:00" in file.getvalue()


@pytest.mark.parametrize("row", [ROW, {}, {"odd/[red]": 1.0, "reward/propose/[/x]": 0.0}])
def test_live_view_draws(row: dict[str, Any]) -> None:
    file = io.StringIO()
    console = Console(file=file, width=100, height=30, force_terminal=True)
    with Progress("a [run]", 10, first_step=3, console=console) as progress:
        progress.phase("estimate")
        progress.step({"step": 3, **row})
        console.print(progress)
        progress.note("saved [step 4]")
    text = file.getvalue()
    assert "step 4/10" in text
    assert "estimate" in text
    assert "saved [step 4]" in text
    if row is ROW:
        for part in ("deduction", "0.25", "-0.50", "4,321 tokens/s", "sandbox jobs per s"):
            assert part in text
