"""What training on the difficulty samples is worth: held-out gain per generated token.

    python benchmarks/reuse.py [--json FILE] [--steps N]

Hardware: 2 CPU cores. Time: two runs of gin/runs/tiny.gin, of 40 steps unless told otherwise. The
solver's samples that estimate how hard a proposal is are on-policy answers, checked and paid for.
"reused": they are trained on, too (RunConfig.estimate_reuse); "unused": they only pay the proposer.
Same seed, same number of steps; the update's own cost is told as its share of a step's seconds.
Runs lie in `runs/reuse`: an interrupted one is resumed, a finished one only read.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

# Beside this script stands `sandbox.py`, which is not the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from azr_jax.report.metrics import read_rows
from azr_jax.report.summary import read_summary
from benchmarks import beside

ARMS = {"reused": True, "unused": False}
SEEDS = (0,)


def play(directory: Path, reuse: bool, seed: int, steps: int) -> dict[str, Any]:
    """One run to its end: gain, its paired standard error, generated tokens, seconds."""
    bindings = (f"RunConfig.estimate_reuse = {reuse}", f"RunConfig.seed = {seed}")
    flags = [flag for binding in bindings for flag in ("--gin_bindings", binding)]
    command = ["train", "--gin_file", "runs/tiny.gin", "--run_dir", str(directory), *flags]
    subprocess.run(
        [sys.executable, "-m", "azr_jax", *command, "--steps", str(steps)],
        check=True,
        stdout=sys.stderr,
    )
    summary: Any = read_summary(directory)
    rows = [row for row in read_rows(directory / "metrics") if "sampled_tokens" in row]
    spent = [sum(v for k, v in row.items() if k.startswith("seconds/")) for row in rows]
    gain = summary["heldout"]["gain"]["all"]["sampled"]
    return {
        "gain": gain["mean"],
        "stderr": gain["stderr_paired"],
        "tokens": sum(row["sampled_tokens"] for row in rows),
        "update_share": sum(row["seconds/update"] for row in rows) / sum(spent),
    }


def main() -> None:
    """Run all arms and seeds, print the table and the ratio, write the JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    raw = [
        {"arm": arm, "seed": seed}
        | play(Path("runs/reuse") / f"{arm}{seed}", reuse, seed, arguments.steps)
        for seed in SEEDS
        for arm, reuse in ARMS.items()
    ]
    print("| run | gain, points | million tokens | points a million | update's share of time |")
    print("|---|--:|--:|--:|--:|")
    for row in raw:
        gain, tokens = 100 * row["gain"], row["tokens"] / 1e6
        print(
            f"| {row['arm']}, seed {row['seed']} | {gain:.1f} ± {100 * row['stderr']:.1f} "
            f"| {tokens:.2f} | {gain / tokens:.1f} | {row['update_share']:.0%} |"
        )
    per_token = {
        arm: fmean(row["gain"] / row["tokens"] for row in raw if row["arm"] == arm) for arm in ARMS
    }
    beside.finish(
        arguments.json, {"reused_vs_unused": per_token["reused"] / per_token["unused"]}, raw
    )


if __name__ == "__main__":
    main()
