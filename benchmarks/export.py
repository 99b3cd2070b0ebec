"""Peak memory of import and export: a random model of the true shape of Llama-3.2-1B, bfloat16.

    python benchmarks/export.py --json TABLE.json

Hardware: 2 CPU cores, 16 GB of free disk under --scratch. Time: a few minutes.

Every row is a process of its own. What is measured is its resident memory at its highest (VmHWM of
Linux), all of it: the interpreter, its libraries and mapped files count. Anonymous memory
(RssAnon, sampled every 10 ms) is what remains when the kernel takes the pages of mapped files back.
The peer reads and writes the same folder with transformers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

# A script beside this one is called like the package `sandbox`.
ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from azr_jax import config as gin_config
from azr_jax.learn.checkpoint import describe, save_params
from azr_jax.model import folder, hf
from azr_jax.model.config import ModelConfig
from azr_jax.model.hf_config import write_config
from azr_jax.model.shards import DTYPES, ShardWriter, read_shards
from azr_jax.model.transformer import parameter_shapes
from azr_jax.policy import EMBEDDED, KEPT

GIN_FILE = "models/llama3_2_1b.gin"
GIB = 2**30
ALLOWED_GIB = 2.0
"""What may be held beside the largest tensor."""

PEER = """
import sys, torch, transformers
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
model.save_pretrained(sys.argv[2])
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), metavar="DIR")
    parser.add_argument("--gin_file", default=GIN_FILE, help="the model's shape")
    args = parser.parse_args()
    gin_config.parse([args.gin_file])
    model: ModelConfig = gin_config.build("ModelConfig")
    place = Path(tempfile.mkdtemp(prefix="azr-export-", dir=args.scratch))
    try:
        rows = measure(place, model)
    finally:
        shutil.rmtree(place)
    found = {
        "machine": f"{os.cpu_count()} cores, {_processor()}",
        "date": datetime.now(UTC).date().isoformat(),
        "ratios": ratios(rows),
        "rows": rows,
    }
    print(f"{args.gin_file}: {model.parameter_count() / 1e9:.2f} billion parameters")
    print(f"{found['machine']}; {found['date']}\n")
    print(table(rows))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if any(row["side"] == "peer" for row in rows) else 1


def measure(place: Path, model: ModelConfig) -> list[dict[str, Any]]:
    """The folder is made, imported and exported; a run of the same model is exported."""
    source, imported, run = (place / name for name in ("source", "imported", "run"))
    bf16, f32 = (_largest(model, bytes_each) for bytes_each in (2, 4))
    _in_child(_make_folder, source, model)
    azr = [sys.executable, "-m", "azr_jax"]
    rows = []

    def row(name: str, side: str, largest: float, command: Sequence[object]) -> None:
        measured = peak(command)
        rows.append({"name": name, "side": side, "largest_tensor_gib": largest} | measured)

    row("azr import", "azr", bf16, [*azr, "import", "--hf", source, "--out", imported])
    out = place / "out"
    row(
        "azr export, imported",
        "azr",
        bf16,
        [*azr, "export", "--checkpoint", imported, "--out", out],
    )
    same = _equal_folders(source, out)
    if not same:
        raise SystemExit("the exported tensors are not those that were imported")
    shutil.rmtree(out)
    try:
        row("transformers, load and save", "peer", bf16, [sys.executable, "-c", PEER, source, out])
    except subprocess.CalledProcessError:
        print("transformers and torch are not installed: no peer", file=sys.stderr)
    shutil.rmtree(out, ignore_errors=True)
    _in_child(_make_run, run, model)
    row("azr export, float32 run", "azr", f32, [*azr, "export", "--checkpoint", run, "--out", out])
    return rows


def peak(command: Sequence[object]) -> dict[str, float]:
    """Runs a command; its highest resident and anonymous memory in GiB, and its seconds.

    Raises:
      CalledProcessError: it failed.
    """
    started = time.monotonic()
    words = [str(word) for word in command]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, cwd=ROOT)
    high = anonymous = 0
    while process.poll() is None:
        status = _status(process.pid)
        high = max(high, status.get("VmHWM", 0))
        anonymous = max(anonymous, status.get("RssAnon", 0))
        time.sleep(0.01)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    seconds = time.monotonic() - started
    return {"peak_gib": high / 2**20, "anonymous_gib": anonymous / 2**20, "seconds": seconds}


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """What is allowed, over what was held; the least of our rows. The peer maps files instead."""
    ours = [row for row in rows if row["side"] == "azr"]
    room = [(row["largest_tensor_gib"] + ALLOWED_GIB) / row["peak_gib"] for row in ours]
    return {"allowed_vs_peak": min(room)}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| | peak | of it anonymous | largest tensor + 2 GiB | time |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        allowed = row["largest_tensor_gib"] + ALLOWED_GIB
        lines.append(
            f"| {row['name']} | {row['peak_gib']:.2f} GiB | {row['anonymous_gib']:.2f} GiB | "
            f"{allowed:.2f} GiB | {row['seconds']:.0f} s |"
        )
    return "\n".join(lines)


def _status(pid: int) -> dict[str, int]:
    """Name -> KiB; empty once the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(kib) for name, kib, _ in pairs}


def _in_child(function: Any, *arguments: Any) -> None:
    """In a process of its own, so that its memory is given back."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function(*arguments)
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit(f"{function.__name__} failed")


def _make_folder(path: Path, model: ModelConfig) -> None:
    """A random model in bfloat16, with the tiny tokenizer."""
    path.mkdir()
    rng = np.random.default_rng(0)
    write_config(path, model, eos_id=1, pad_id=0, dtype="bfloat16")
    layout = {name: (DTYPES["BF16"], slot.shape) for name, slot in hf.slots(model).items()}
    with ShardWriter(path, layout, shard_bytes=GIB) as writer:
        for name, (_, shape) in layout.items():
            writer.write(name, 0.02 * rng.standard_normal(shape, np.float32))
    for name, data in folder.tokenizer_files(EMBEDDED).items():
        (path / name).write_bytes(data)


def _make_run(path: Path, model: ModelConfig) -> None:
    """A run directory with one checkpoint, in float32, as Orbax saves it."""
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(model)

    def leaf(shape: tuple[int, ...]) -> Any:
        import jax.numpy as jnp

        return jnp.asarray(0.02 * rng.standard_normal(shape, np.float32))

    params = {name: leaf(shape) for name, shape in shapes.items() if name != "layers"}
    params["layers"] = {name: leaf(shape) for name, shape in shapes["layers"].items()}
    meta = describe(model, gin_config="", sandbox_level="none")
    (path / KEPT).mkdir(parents=True)
    for name, data in folder.tokenizer_files(EMBEDDED).items():
        (path / KEPT / name).write_bytes(data)
    save_params(path / "checkpoints" / "1", params, meta)


def _equal_folders(a: Path, b: Path) -> bool:
    first, second = read_shards(a), read_shards(b)
    if first.keys() != second.keys():
        return False
    return all(
        (x.view(np.uint8) == y.view(np.uint8)).all()
        for name, tensor in first.items()
        for (_, x), (_, y) in zip(tensor.pieces(), second[name].pieces(), strict=True)
    )


def _largest(model: ModelConfig, bytes_each: int) -> float:
    """GiB of the largest tensor of a folder."""
    return max(float(np.prod(slot.shape)) for slot in hf.slots(model).values()) * bytes_each / GIB


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


if __name__ == "__main__":
    raise SystemExit(main())
