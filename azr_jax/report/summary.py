"""Before and after: `summary.json` and the table that ends a run. All accuracies lie in [0, 1]."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from azr_jax import storage
from azr_jax.errors import UserError

Summary = dict[str, Any]

_GAINS = {
    "sampled": "sampled",
    "greedy": "greedy",
    "best_temperature": "at_best_temperature",
}
"""What `heldout.before` and `.after` call it -> what `heldout.gain` calls it."""


def make_summary(
    *,
    run: str,
    steps: int,
    seconds: float,
    device: str,
    sandbox_level: int,
    valid_proposals: Sequence[float],
    heldout: Mapping[str, Any] | None,
) -> Summary:
    """The content of `summary.json`.

    Args:
      seconds: wall time of self-play, of all sessions of the run together.
      valid_proposals: fraction of valid proposals at each step.
      heldout: accuracy before and after, and its gain; None where none was measured.
    """
    return {
        "run": run,
        "steps": steps,
        "seconds": seconds,
        "device": device,
        "sandbox_level": sandbox_level,
        "valid_proposals": {
            "first_step": valid_proposals[0] if valid_proposals else 0.0,
            "mean": fmean(valid_proposals) if valid_proposals else 0.0,
        },
        **({"heldout": dict(heldout)} if heldout is not None else {}),
    }


def write_summary(summary: Summary, run_dir: Path) -> Path:
    """`run_dir/summary.json`, whole or not at all."""
    path = run_dir / "summary.json"
    storage.write(path, json.dumps(summary, indent=2) + "\n")
    return path


def read_summary(run_dir: Path) -> Summary | None:
    """None where the run has not ended yet.

    Raises:
      UserError: when the file is there but is no summary.
    """
    path = run_dir / "summary.json"
    text = storage.read(path)
    if text is None:
        return None
    try:
        summary: Summary = json.loads(text)
        summary["valid_proposals"]["mean"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not the summary of a run") from error
    return summary


def print_summary(summary: Summary, console: Console | None = None) -> None:
    """What ends a run: the table of before and after, and where all of it lies."""
    console = console or Console()
    if "heldout" in summary:
        console.print(_table(summary["heldout"], summary["steps"]))
    valid = summary["valid_proposals"]
    console.print(
        f"valid proposals: {100 * valid['first_step']:.0f} % at the first step, "
        f"{100 * valid['mean']:.0f} % on average"
    )
    console.print(
        f"{summary['seconds'] / 60:.1f} minutes on {summary['device']}, "
        f"sandbox level {summary['sandbox_level']}",
        highlight=False,
    )
    # A name is no markup.
    console.print(f"all of it: {summary['run']}", highlight=False, markup=False, emoji=False)


def _table(held: Mapping[str, Any], steps: int) -> Table:
    """Held-out accuracy by task type, in percent, with standard errors."""
    temperatures = tuple(
        held[when]["all"]["best_temperature"]["temperature"] for when in ("before", "after")
    )
    table = Table(
        title=f"Held-out accuracy before and after {steps} steps of self-play, in %",
        caption="± is one standard error, paired for the gain. Best T was chosen on other tasks:\n"
        f"{temperatures[0]:g} before, {temperatures[1]:g} after.",
        title_style="bold",
    )
    table.add_column("")
    table.add_column("task type")
    for heading in ("before", "after", "gain"):
        table.add_column(heading, justify="right", no_wrap=True)
    titles = {
        "sampled": "sampled, T = 1",
        "greedy": "greedy",
        "best_temperature": "sampled, best T",
    }
    for mode, title in titles.items():
        for position, name in enumerate(held["before"]):
            old, new = held["before"][name][mode], held["after"][name][mode]
            gain = held["gain"][name][_GAINS[mode]]
            table.add_row(
                title if position == 0 else "",
                name,
                _percent(old["mean"], old["stderr"]),
                _percent(new["mean"], new["stderr"]),
                _percent(gain["mean"], gain["stderr_paired"], sign=True),
                style="bold" if name == "all" else None,
                end_section=position == len(held["before"]) - 1,
            )
    return table


def _percent(mean: float, error: float, sign: bool = False) -> str:
    return f"{100 * mean:{'+' if sign else ''}.1f} ± {100 * error:.1f}"
