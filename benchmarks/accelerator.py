"""Sampling and updates of large shapes on one GPU: bandwidth, MFU, and the same peers beside them.

    python benchmarks/accelerator.py [--json FILE] [--only CASE[,CASE…]]

Hardware: one GPU of 80 GB or more. Time: about six minutes; `--only` takes names of `CASES`. Needs
`make peers` on that machine for the peers' rows. Random weights, bfloat16 products, Llama's layout
in the sizes of Qwen2.5. Each row is measured in a process of its own, one after the other, since
each wants the memory for itself.

Ceilings: a copy within the device (bytes read and written), a sum (read only), a bfloat16 product.
A decode step must read every weight it multiplies with and the live part of the KV cache; that over
its time is its bandwidth. An update's FLOPs are three forward passes over its real tokens, causal
inside their sequences; nothing is counted for what is computed again or for padding.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# Beside this script stands `sandbox.py`, which is not the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import jax
import jax.numpy as jnp
import numpy as np

from azr_jax.learn.batching import Sample, fill, pack
from azr_jax.learn.optimizer import OptimizerConfig, make_optimizer
from azr_jax.learn.state import state_of_params
from azr_jax.learn.update import LossConfig, make_update
from azr_jax.model import attention, backend, cudnn, flash_decode
from azr_jax.model.config import ModelConfig
from azr_jax.model.hf import write_config
from azr_jax.model.sampler import Prompt, Sampler, SamplerConfig
from azr_jax.model.sharding import MeshConfig, make_mesh
from azr_jax.model.sizes import Shape
from azr_jax.model.transformer import Params, Transformer, parameter_shapes
from azr_jax.plan.roofline import matmul_parameters
from benchmarks import beside
from benchmarks.sampler import Numbers

Row = dict[str, Any]

SIZES = ("d_model", "layers", "heads", "kv_heads", "head_dim", "d_ff")
SHAPES: dict[str, dict[str, Any]] = {
    name: dict(zip(SIZES, sizes, strict=True))
    for name, sizes in {
        "0.5B": (896, 24, 14, 2, 64, 4864),
        "1.5B": (1536, 28, 12, 2, 128, 8960),
        "3B": (2048, 36, 16, 2, 128, 11008),
        "7B": (3584, 28, 28, 4, 128, 18944),
    }.items()
}
UNTIED = ("7B",)
CACHE, SLICE = 2048, 64
PROMPTS, SLOTS, LONGEST = 128, 64, 512
ROW_TOKENS, SAMPLES = 14336, 32
LONGEST_PROMPT, LONGEST_COMPLETION = 6144, 8096
CASE_S = 120
"""Seconds that a case may take: one that hangs must not cost the others."""


def shape(name: str, **options: Any) -> ModelConfig:
    """A model's shape."""
    return ModelConfig(
        vocab_size=151936,
        rope_theta=1e6,
        max_positions=32768,
        tied_embeddings=name not in UNTIED,
        dtype="bfloat16",
        **SHAPES[name],
        **options,
    )


def drawn(config: ModelConfig, dtype: Any) -> Params:
    """Random parameters, made on the device."""
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    leaves, tree = jax.tree.flatten(parameter_shapes(config), is_leaf=is_shape)

    @jax.jit
    def draw(key: jax.Array) -> Params:
        keys = jax.random.split(key, len(leaves))
        pairs = zip(keys, leaves, strict=True)
        return jax.tree.unflatten(tree, [0.02 * jax.random.normal(k, s, dtype) for k, s in pairs])

    return draw(jax.random.key(0))


def seconds(call: Callable[[], Any], rounds: int = 3, repeats: int = 10) -> float:
    """Least mean seconds of a call, after one to warm up."""
    jax.block_until_ready(call())
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        jax.block_until_ready([call() for _ in range(repeats)][-1])
        taken.append((time.perf_counter() - started) / repeats)
    return min(taken)


# --- cases: each prints rows, in a process of its own --------------------------------------------


def ceilings() -> list[Row]:
    """What the device can do at most."""
    x = jax.random.normal(jax.random.key(1), (2**31,), jnp.bfloat16)
    copy, total = jax.jit(jnp.copy), jax.jit(lambda x: x.astype(jnp.float32).sum())
    a = jax.random.normal(jax.random.key(0), (8192, 8192), jnp.bfloat16)
    product = jax.jit(jnp.matmul)
    return [
        {
            "case": "ceilings",
            "copy_bytes_per_s": 2 * x.nbytes / seconds(lambda: copy(x)),
            "read_bytes_per_s": x.nbytes / seconds(lambda: total(x)),
            "flop_per_s": 2 * 8192**3 / seconds(lambda: product(a, a)),
        }
    ]


def kernels() -> list[Row]:
    """Fused attention against the dense one in float32: outputs, and gradients where it learns."""
    keys = jax.random.split(jax.random.key(0), 4)
    b, t, h, kv, e = 2, 1024, 14, 2, 128

    def relative(found: Any, expected: Any) -> float:
        pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
        return max(
            float(jnp.linalg.norm((f.astype(jnp.float32) - x).ravel()) / jnp.linalg.norm(x.ravel()))
            for f, x in pairs
        )

    q, k, v = (
        jax.random.normal(key, (b, t, n, e), jnp.bfloat16)
        for key, n in zip(keys, (h, kv, kv), strict=False)
    )
    segments = jnp.asarray(np.repeat([[1, 2, 3, 0], [1, 2, 0, 0]], t // 4, axis=1))
    branches = jnp.asarray(np.repeat([[0, 1, 2, 0], [0, 0, 0, 0]], t // 4, axis=1))
    nothing = jnp.zeros_like(segments)
    errors = {}
    for mask, ids, under in (
        ("order", jnp.ones_like(segments), nothing),
        ("segments", segments, nothing),
        ("branches", jnp.minimum(segments, 1), branches),
    ):
        layout = attention.Layout(nothing, ids, under, mask)  # type: ignore[arg-type]

        def both(q: Any, k: Any, v: Any, layout: Any = layout) -> Any:
            out, back = jax.vjp(lambda *qkv: attention.packed(*qkv, layout), q, k, v)
            return out, back(out)

        found = jax.jit(both)(q, k, v)
        with backend.compiling_for("dense"), jax.default_matmul_precision("highest"):
            expected = jax.jit(both)(*(x.astype(jnp.float32) for x in (q, k, v)))
        errors[mask] = relative(found, expected)
    length = jnp.array([t, 300])
    cache = [x.swapaxes(1, 2) for x in (k, v)]
    found = jax.jit(flash_decode.attention)(q[:, 0], *cache, length)
    with backend.compiling_for("dense"), jax.default_matmul_precision("highest"):
        full = (x.astype(jnp.float32) for x in (q[:, 0], *cache))
        errors["decode"] = relative(found, jax.jit(attention.cached)(*full, length))
    wrong = {name: error for name, error in errors.items() if not error < 1e-2}
    if wrong or not cudnn.packed_attention:
        raise SystemExit(f"fused attention is wrong, or not there: {wrong}")
    return [{"case": "kernels", "relative_error": errors}]


def decode(model: str, all_slots: Sequence[int]) -> list[Row]:
    """Decode steps in the middle of a cache, at several batch sizes."""
    config = shape(model)
    params = drawn(config, jnp.bfloat16)
    weights: Any = None
    rows = []
    for slots in all_slots:
        sampler = Sampler(
            Transformer(config),
            SamplerConfig(
                slots=slots,
                slice_tokens=SLICE,
                max_prompt_tokens=CACHE // 2,
                max_new_tokens=CACHE // 2,
                stop_strings=(),
                **dict.fromkeys(("cache_sizes", "slot_sizes", "prompt_sizes"), 1),
            ),
            make_mesh(MeshConfig()),
            Numbers(config.vocab_size),
            seed=0,
        )
        if weights is None:
            weights = sampler.programs.prepare(params)
            del params
        cache = sampler.programs.get(Shape("empty", slots, CACHE))()
        program = sampler.programs.get(Shape("decode", slots, CACHE))
        live = sum(x.nbytes for x in jax.tree.leaves(cache)) * (CACHE // 2 + SLICE / 2) / CACHE
        fed = (
            np.full(slots, 5, np.int32),
            np.full(slots, CACHE // 2, np.int32),
            np.full(slots, CACHE - 1, np.int32),
            np.arange(2 * slots, dtype=np.uint32).reshape(slots, 2),
            np.ones(slots, bool),
            np.int32(0),
            np.float32(1),
        )
        taken = []
        for _ in range(4):
            started = time.perf_counter()
            cache, *_, steps = program(weights, cache, *fed)
            count = int(steps)  # waits for the device
            taken.append((time.perf_counter() - started) / count)
        step_s = min(taken)
        read = 2 * matmul_parameters(config) + live
        rows.append(
            {
                "case": "decode",
                "model": model,
                "slots": slots,
                "context": CACHE // 2,
                "step_s": step_s,
                "tokens_per_s": slots / step_s,
                "bytes_per_s": read / step_s,
            }
        )
        del cache
    return rows


def workload(count: int) -> tuple[list[int], list[int]]:
    """Heavy-tailed lengths of prompts and completions, up to the paper's limits."""
    prompts = beside.heavy_tailed(count, LONGEST_PROMPT, seed=2)
    return prompts, beside.heavy_tailed(count, LONGEST_COMPLETION, seed=3)


def update_request(vocabulary: int) -> dict[str, Any]:
    """A batch as plain values."""
    draw = np.random.default_rng(0)
    prompts, completions = workload(SAMPLES)
    ids = lambda size: draw.integers(beside.FIRST_ID, vocabulary, size).tolist()  # noqa: E731
    return {
        "prompts": [ids(n) for n in prompts],
        "completions": [ids(n) for n in completions],
        "behaviour_logp": [[-float(np.log(vocabulary))] * n for n in completions],
        "advantages": draw.normal(size=SAMPLES).tolist(),
    }


def update(model: str, remat: str) -> list[Row]:
    """Optimiser steps over packed rows of the paper's lengths."""
    config = shape(model, remat=remat)
    request = update_request(config.vocab_size)
    columns = (request[n] for n in ("prompts", "completions", "behaviour_logp", "advantages"))
    samples = [
        Sample(tuple(prompt), tuple(completion), tuple(logp), advantage)
        for prompt, completion, logp, advantage in zip(*columns, strict=True)
    ]
    batch = pack(samples, ROW_TOKENS, share_prompts=backend.shares_prompts())
    decoder, optimizer = Transformer(config), make_optimizer(OptimizerConfig(), 1000)
    step = make_update(
        decoder,
        optimizer,
        LossConfig(),
        make_mesh(MeshConfig()),
        temperature=1.0,
        valid_ids=config.vocab_size,
        micro_rows=1,
    )
    state = state_of_params(decoder, optimizer, step.mesh, drawn(config, jnp.float32))
    taken = []
    for _ in range(4):
        started = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready(state)
        taken.append(time.perf_counter() - started)
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    tokens = fill(batch).tokens
    pairs = sum((len(s.prompt) - 1 + len(s.completion)) ** 2 / 2 for s in samples)
    forward = 2.0 * matmul_parameters(config) * tokens
    forward += 4.0 * config.layers * config.heads * config.head_dim * pairs
    return [
        {
            "case": "update",
            "model": model,
            "remat": remat,
            "step_s": min(taken[1:]),
            "tokens": tokens,
            "trained_tokens": sum(map(len, request["completions"])),
            "fill": fill(batch).fraction,
            "flop_per_s": 3 * forward / min(taken[1:]),
            "peak_bytes": peak,
            "loss": float(metrics["loss"]),
        }
    ]


def sampling_request(vocabulary: int) -> dict[str, Any]:
    """Prompts, and how many tokens to draw for each."""
    draw = np.random.default_rng(1)
    sizes = draw.integers(128, 513, PROMPTS)
    return {
        "prompts": [draw.integers(beside.FIRST_ID, vocabulary, n).tolist() for n in sizes],
        "lengths": beside.heavy_tailed(PROMPTS, LONGEST, seed=0),
        "batch": SLOTS,
        "seed": 1,
    }


def drain(model: str) -> list[Row]:
    """A whole drain of the sampler, prefill and refills included."""
    config = shape(model)
    request = sampling_request(config.vocab_size)
    sampler = Sampler(
        Transformer(config),
        SamplerConfig(
            slots=SLOTS,
            slice_tokens=SLICE,
            max_prompt_tokens=512,
            max_new_tokens=LONGEST,
            stop_strings=(),
            prompt_sizes=1,
        ),
        make_mesh(MeshConfig()),
        Numbers(config.vocab_size),
        seed=0,
    )
    params = drawn(config, jnp.bfloat16)
    sampler.compile(params)
    taken = []
    for number in range(3):
        pairs = zip(request["prompts"], request["lengths"], strict=True)
        prompts = [
            Prompt(tuple(ids), stream=(number, index), max_new_tokens=length)
            for index, (ids, length) in enumerate(pairs)
        ]
        started = time.perf_counter()
        found = list(sampler.stream(params, prompts, temperature=1.0))
        taken.append(time.perf_counter() - started)
    return [
        {
            "case": "drain",
            "side": "ours",
            "model": model,
            "tokens": sum(len(c.tokens) for c in found),
            "wall_s": min(taken[1:]),
            "late_compiles": sampler.late_compiles,
        }
    ]


def peer(environment: str, script: str, model: str, case: str, rounds: int) -> list[Row]:
    """A peer on the same request; it draws its own random weights."""
    config = shape(model)
    request = {
        "drain": sampling_request,
        "update": lambda v: update_request(v) | {"micro": 1},
    }[case](config.vocab_size)
    with TemporaryDirectory() as directory:
        write_config(Path(directory), config, eos_id=1, pad_id=0)
        with beside.peer(environment, script, Path(directory), platform="") as ask:
            taken = [ask(request) for _ in range(rounds)]
    best = min(taken, key=lambda answer: answer["wall_s"])
    return [{"case": case, "side": environment, "model": model, **best}]


CASES: dict[str, Callable[[], list[Row]]] = {
    "ceilings": ceilings,
    "kernels": kernels,
    "decode_0.5B": lambda: decode("0.5B", (128,)),
    "decode_7B": lambda: decode("7B", (32, 64, 128)),
    "update_0.5B": lambda: update("0.5B", "dots"),
    "update_1.5B_none": lambda: update("1.5B", "none"),
    "update_1.5B": lambda: update("1.5B", "dots"),
    "update_3B": lambda: update("3B", "dots"),
    "update_1.5B_torch": lambda: peer("torch", "torch_update.py", "1.5B", "update", 3),
    "update_1.5B_tunix": lambda: peer("tunix", "tunix_update.py", "1.5B", "update", 2),
    "drain_7B": lambda: drain("7B"),
    "drain_7B_torch": lambda: peer("torch", "torch_sampler.py", "7B", "drain", 1),
    "drain_7B_tunix": lambda: peer("tunix", "tunix_sampler.py", "7B", "drain", 2),
}


def child(name: str) -> list[Row]:
    """A case in a process of its own; one that fails says so and gives no row."""
    command = [sys.executable, __file__, "--case", name]
    environment = os.environ | {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"}
    started = time.monotonic()
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, env=environment, timeout=CASE_S, check=False
        )
        output, end = done.stdout, f"exit {done.returncode}"
    except subprocess.TimeoutExpired:
        output, end = "", f"given up after {CASE_S} s"
    print(f"{name}: {time.monotonic() - started:.0f} s, {end}", file=sys.stderr, flush=True)
    lines = [line for line in output.splitlines() if line.startswith("{")]
    for line in lines:
        print(line, flush=True)
    return [json.loads(line) for line in lines]


def claims(rows: Sequence[Row]) -> dict[str, float]:
    """Shares of the ceilings, and how many times as fast as a peer ours is."""
    found: dict[str, float] = {}
    peaks = next((row for row in rows if row["case"] == "ceilings"), None)
    for row in rows if peaks else ():
        assert peaks
        if row["case"] == "decode":
            name = f"decode_{row['model']}_{row['slots']}_share_of_copy"
            found[name] = row["bytes_per_s"] / peaks["copy_bytes_per_s"]
        if row["case"] == "update" and "flop_per_s" in row:
            name = f"update_{row['model']}_{row['remat']}_mfu"
            found[name] = row["flop_per_s"] / peaks["flop_per_s"]
    drains = {row["side"]: row["tokens"] / row["wall_s"] for row in rows if row["case"] == "drain"}
    updates: dict[str, float] = {}
    for row in rows:
        if row["case"] == "update" and row["model"] == "1.5B":
            side, spent = row.get("side", "ours"), row.get("step_s", row.get("wall_s"))
            updates[side] = min(spent, updates.get(side, spent))
    for side in ("torch", "tunix"):
        if side in drains and "ours" in drains:
            found[f"drain_vs_{side}"] = drains["ours"] / drains[side]
        if side in updates and "ours" in updates:
            found[f"update_vs_{side}"] = updates[side] / updates["ours"]
    return found


def main() -> None:
    """Run the cases asked for, print rows and claims, write the JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--only", default=",".join(CASES), metavar="CASE[,CASE…]")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        for row in CASES[arguments.case]():
            print(json.dumps(row), flush=True)
        return
    unknown = sorted(set(arguments.only.split(",")) - CASES.keys())
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    rows: list[Row] = []
    for name in arguments.only.split(","):
        rows += child(name)
        if arguments.json:  # what is measured stays, whatever comes next
            arguments.json.write_text(json.dumps({"rows": rows}) + "\n")
    beside.finish(arguments.json, claims(rows), rows)


if __name__ == "__main__":
    main()
