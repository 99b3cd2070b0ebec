"""What the speed benchmarks share: models, workloads, peers in processes of their own, ratios.

A peer is a script of `benchmarks/peers`, run by the Python of its own environment (`make peers`).
It reads one JSON request a line and answers each with one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import NormalDist, median
from typing import Any

import jax
import numpy as np

from azr_jax.model.config import ModelConfig
from azr_jax.model.hf import read_config, read_params, write_config, write_params
from azr_jax.model.transformer import Params, Transformer
from azr_jax.policy import EMBEDDED, resolve

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent / ".venv-peers"
CORES = len(os.sched_getaffinity(0))
FIRST_ID = 8
"""Lower ids are special in the embedded model."""

MEDIUM = ModelConfig(
    vocab_size=8192, d_model=384, layers=8, heads=6, kv_heads=3, head_dim=64, d_ff=1024,
    rope_theta=1_000_000.0,  # tunix's Llama rotates by no other
)  # fmt: skip
"""16 million parameters, drawn at random."""


@dataclass(frozen=True)
class Model:
    """A Hugging Face folder, and its weights as ours."""

    name: str
    folder: Path
    config: ModelConfig
    params: Params

    @property
    def title(self) -> str:
        return f"{self.name}, {self.config.parameter_count() / 1e6:.1f}M parameters"


@contextmanager
def models() -> Iterator[list[Model]]:
    """The embedded tiny model and `MEDIUM`, in folders that all sides read."""
    with tempfile.TemporaryDirectory() as directory:
        medium = Path(directory)
        drawn = Transformer(MEDIUM).init(
            jax.random.key(0), np.zeros((1, 1), np.int32), np.ones(1, np.int32), method="prefill"
        )
        write_config(medium, MEDIUM, eos_id=1, pad_id=0)
        write_params(medium, drawn["params"], MEDIUM)
        folders = {"tiny": resolve(EMBEDDED), "medium": medium}
        configs = {name: read_config(folder) for name, folder in folders.items()}
        yield [
            Model(name, folder, configs[name], read_params(folder, configs[name]))
            for name, folder in folders.items()
        ]


def prompts(count: int, vocabulary: int, seed: int) -> list[list[int]]:
    """Random ids, 24 to 48 of them; no two prompts are equal."""
    draw = np.random.default_rng(seed)
    return [
        draw.integers(FIRST_ID, vocabulary, size).tolist() for size in draw.integers(24, 49, count)
    ]


def heavy_tailed(count: int, longest: int, seed: int) -> list[int]:
    """Lognormal lengths in random order, cut at the longest: a mean of about a fifth of it.

    They stand at even quantiles, so that the sample is no matter of luck.
    """
    quantiles = [NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)]
    lengths = np.clip(0.13 * longest * np.exp(quantiles), 4, longest).astype(int)
    return np.random.default_rng(seed).permutation(lengths).tolist()


# --- peers ---------------------------------------------------------------------------------------

Ask = Callable[[Mapping[str, Any]], dict[str, Any]]


def python_of(environment: str) -> Path:
    """The interpreter of a peer's environment.

    Raises:
      SystemExit: it is not installed.
    """
    python = ENVIRONMENTS / environment / "bin" / "python"
    if not python.is_file():
        raise SystemExit(f"{python.parent.parent.name}, a peer, is not installed: make peers")
    return python


@contextmanager
def peer(environment: str, script: str, folder: Path, platform: str = "cpu") -> Iterator[Ask]:
    """A peer with the model of `folder`, on as many threads as ours."""
    command = [str(python_of(environment)), str(HERE / "peers" / script), str(folder)]
    quiet = {"OMP_NUM_THREADS": str(CORES), "JAX_PLATFORMS": platform, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | quiet
    )
    assert process.stdin and process.stdout

    def ask(request: Mapping[str, Any]) -> dict[str, Any]:
        assert process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # its own message says why
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the peer ended: {' '.join(command)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    try:
        yield ask
    finally:
        process.stdin.close()
        process.wait()


# --- measuring -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Took:
    """One round of one side: the useful tokens, wall seconds."""

    tokens: int
    wall_s: float

    @property
    def rate(self) -> float:
        """Useful tokens per second."""
        return self.tokens / self.wall_s


Taken = dict[str, list[Took]]
"""By side; "ours" is one of them."""


def in_turns(title: str, sides: Mapping[str, Callable[[int], Took]], rounds: int) -> Taken:
    """All rounds of all sides, in turns, after one of each to warm up (round 0)."""
    taken: Taken = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            took = side(number)
            what = "warm-up" if number == 0 else f"round {number}"
            print(f"{title}: {what}, {name}: {took.wall_s:.2f} s", file=sys.stderr, flush=True)
            if number:
                taken[name].append(took)
    return taken


def ratio(taken: Taken, side: str) -> float:
    """How many times as fast as `side` ours is: the median of the rounds' ratios."""
    pairs = zip(taken["ours"], taken[side], strict=True)
    return median(ours.rate / other.rate for ours, other in pairs)


def table(title: str, taken: Taken) -> str:
    """Medians over the rounds, in Markdown."""
    lines = [f"| {title} | tokens/s | ours is faster by |", "|---|--:|--:|"]
    for name, rounds in taken.items():
        faster = "" if name == "ours" else f"{ratio(taken, name):.2f}"
        lines.append(f"| {name} | {median(t.rate for t in rounds):.0f} | {faster} |")
    return "\n".join(lines)


def rows(title: str, taken: Taken) -> list[dict[str, Any]]:
    """Raw times, for the JSON file."""
    return [
        {"case": title, "side": name, "round": number, **asdict(took)}
        for name, rounds in taken.items()
        for number, took in enumerate(rounds, start=1)
    ]


def json_argument(description: str | None) -> Path | None:
    """Parses the command line of a benchmark: `--json FILE` and nothing else."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    path: Path | None = parser.parse_args().json
    return path


def finish(
    path: Path | None, ratios: Mapping[str, float], raw: Sequence[Mapping[str, Any]]
) -> None:
    """Prints the claims, the machine and the date; writes them and the raw rows to `path`."""
    for claim, value in ratios.items():
        print(f"{claim:32}{value:8.3g}")
    device = jax.devices()[0].device_kind
    machine = f"{_processor()}, {CORES} cores, Python {platform.python_version()}"
    machine += "" if device == "cpu" else f", {device}"
    date = datetime.now(UTC).date().isoformat()
    print(f"\n{machine}, jax {jax.__version__} on {jax.default_backend()}, {date}")
    if path:
        report = {"machine": machine, "date": date, "ratios": ratios, "rows": raw}
        path.write_text(json.dumps(report, indent=1) + "\n")


def _processor() -> str:
    found = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return found[0] if found else platform.machine()
