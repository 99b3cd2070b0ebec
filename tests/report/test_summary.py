"""summary.json: the fixed format, and numbers that can be checked by hand."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from azr_jax.errors import UserError
from azr_jax.report.summary import (
    Summary,
    make_summary,
    print_summary,
    read_summary,
    write_summary,
)

NAMES = ("all", "deduction", "abduction", "induction")


def levels(start: float, best: str, error: str) -> dict[str, Any]:
    """Means start, start + .01, … so that every cell differs."""
    offsets = {"sampled": 0.0, "greedy": 0.1, best: 0.2}
    return {
        name: {m: {"mean": start + o + i / 100, error: 0.011} for m, o in offsets.items()}
        for i, name in enumerate(NAMES)
    }


def heldout() -> dict[str, Any]:
    found = {
        "before": levels(0.3, "best_temperature", "stderr"),
        "after": levels(0.4, "best_temperature", "stderr"),
        "gain": levels(0.1, "at_best_temperature", "stderr_paired"),
    }
    for when, temperature in (("before", 0.6), ("after", 0.8)):
        for cells in found[when].values():
            cells["best_temperature"]["temperature"] = temperature
    return found


def example(valid: Sequence[float] = (0.5, 0.7, 0.9), measured: bool = True) -> Summary:
    return make_summary(
        run="runs/tiny",
        steps=40,
        seconds=600.0,
        device="2 x cpu",
        sandbox_level=2,
        valid_proposals=valid,
        heldout=heldout() if measured else None,
    )


def test_format() -> None:
    summary = example()
    assert list(summary) == [
        "run",
        "steps",
        "seconds",
        "device",
        "sandbox_level",
        "valid_proposals",
        "heldout",
    ]
    assert summary["valid_proposals"] == {"first_step": 0.5, "mean": pytest.approx(0.7)}
    assert summary["heldout"] == heldout()


def test_a_run_of_no_steps() -> None:
    assert example(valid=())["valid_proposals"] == {"first_step": 0.0, "mean": 0.0}


def test_file_round_trip(tmp_path: Path) -> None:
    assert read_summary(tmp_path) is None
    write_summary(example(), tmp_path)
    assert read_summary(tmp_path) == example()
    (tmp_path / "summary.json").write_text('{"heldout": 3}')
    with pytest.raises(UserError, match="summary of a run"):
        read_summary(tmp_path)


def printed(summary: Summary) -> str:
    file = io.StringIO()
    print_summary(summary, Console(file=file, width=100))
    return file.getvalue()


def test_table_holds_the_numbers() -> None:
    text = printed(example())
    for part in ("30.0 ± 1.1", "+10.0 ± 1.1", "+33.0 ± 1.1", "deduction", "greedy", "0.8 after"):
        assert part in text
    assert "50 % at the first" in text
    assert "runs/tiny" in text


def test_a_run_that_measured_nothing_has_no_table() -> None:
    text = printed(example(measured=False))
    assert "greedy" not in text
    assert "10.0 minutes" in text
