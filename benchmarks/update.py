"""Our training step beside one in torch and transformers and one of google-tunix.

    python benchmarks/update.py [--json FILE]

Hardware: 2 CPU cores. Time: about four minutes. Needs `make peers`. The embedded tiny model and one
of 16M random parameters, float32 on all sides, the same weights, threads and batch: every
completion has a prompt of its own and a length from a heavy tail. A step is forward, clipped policy
gradient with log-probs at the sampling temperature, backward, clip by global norm, AdamW. We pack,
and count that; torch pads to the longest of a micro-batch, tunix to that of the batch. Only the
completions' tokens count. Compiling and warm-up stay outside the clock. Then our forward and
backward alone, as a share of the fastest matrix product that JAX does on this machine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Beside this script stands `sandbox.py`, which is not the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import jax
import jax.numpy as jnp
import numpy as np

from azr_jax.learn.batching import Batch, Sample, fill, pack
from azr_jax.learn.optimizer import OptimizerConfig, make_optimizer
from azr_jax.learn.state import state_of_params
from azr_jax.learn.update import LossConfig, make_update, policy_micro_loss
from azr_jax.model.config import ModelConfig
from azr_jax.model.sharding import MeshConfig, make_mesh
from azr_jax.model.transformer import Transformer
from benchmarks import beside
from benchmarks.beside import Ask, Model, Taken, Took

PEERS = {"torch": ("torch", "torch_update.py"), "tunix": ("tunix", "tunix_update.py")}
SAMPLES, LONGEST = 32, 256
MICRO = 8
"""Samples that a peer computes at a time: what TRL does unless told otherwise."""
ROW_TOKENS, MICRO_ROWS = 320, 2
ROUNDS = 3
OPTIMIZER = OptimizerConfig(learning_rate=1e-6)


def request(vocabulary: int) -> dict[str, Any]:
    """The batch, as plain values."""
    draw = np.random.default_rng(0)
    lengths = beside.heavy_tailed(SAMPLES, LONGEST, seed=0)
    uniform = -np.log(vocabulary)
    completions = [draw.integers(beside.FIRST_ID, vocabulary, n).tolist() for n in lengths]
    return {
        "prompts": beside.prompts(SAMPLES, vocabulary, seed=1),
        "completions": completions,
        "behaviour_logp": [(uniform + 0.1 * draw.normal(size=n)).tolist() for n in lengths],
        "advantages": draw.normal(size=SAMPLES).tolist(),
    }  # fmt: skip


def packed(batch: dict[str, Any], multiple: int = MICRO_ROWS) -> Batch:
    """The batch as ours."""
    columns = (batch[name] for name in ("prompts", "completions", "behaviour_logp", "advantages"))
    samples = [
        Sample(tuple(prompt), tuple(completion), tuple(logp), advantage)
        for prompt, completion, logp, advantage in zip(*columns, strict=True)
    ]
    return pack(samples, ROW_TOKENS, multiple=multiple)


@dataclass(frozen=True)
class Step(Took):
    """One round of one side; `loss` before the step."""

    loss: float


def ours(model: Model, batch: dict[str, Any]) -> Callable[[int], Step]:
    """Our step."""
    mesh = make_mesh(MeshConfig())
    decoder, optimizer = Transformer(model.config), make_optimizer(OPTIMIZER, 1000)
    update = make_update(
        decoder,
        optimizer,
        LossConfig(),
        mesh,
        temperature=1.0,
        valid_ids=model.config.vocab_size,
        micro_rows=MICRO_ROWS,
    )
    state = state_of_params(decoder, optimizer, mesh, jax.device_put(model.params))
    tokens = sum(map(len, batch["completions"]))

    def one_round(number: int) -> Step:
        nonlocal state
        started = time.monotonic()
        state, metrics = update(state, packed(batch))
        jax.block_until_ready(state)
        return Step(tokens, time.monotonic() - started, float(metrics["loss"]))

    return one_round


def theirs(ask: Ask, batch: dict[str, Any]) -> Callable[[int], Step]:
    """A peer."""
    return lambda number: Step(**ask({**batch, "micro": MICRO}))


def measure(model: Model) -> dict[str, list[Step]]:
    """All rounds of one model."""
    batch = request(model.config.vocab_size)
    with ExitStack() as stack:
        sides = {"ours": ours(model, batch)}
        for name, (environment, script) in PEERS.items():
            ask = stack.enter_context(beside.peer(environment, script, model.folder))
            sides[name] = theirs(ask, batch)
        return beside.in_turns(f"{model.title}, update", sides, ROUNDS)


# --- the share of the peak -----------------------------------------------------------------------


def gemm_peak(size: int = 2048) -> float:
    """FLOP/s of float32 matrix products, the best of several."""
    x = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    return 2 * size**3 / best_s(lambda: product(x, x))


def best_s(call: Callable[[], Any], rounds: int = 5) -> float:
    """Least wall seconds of a call, after one to warm up."""
    jax.block_until_ready(call())
    taken = []
    for _ in range(rounds):
        started = time.monotonic()
        jax.block_until_ready(call())
        taken.append(time.monotonic() - started)
    return min(taken)


def forward_flops(config: ModelConfig, rows: int, time_: int) -> float:
    """Of a packed batch: two a weight and token; attention counted in full below the diagonal."""
    weights = config.parameter_count()  # the embedding once: looked up, then multiplied with
    attention = 4 * config.layers * config.heads * config.head_dim * time_ / 2
    return rows * time_ * (2 * weights + attention)


def shares(model: Model) -> list[dict[str, Any]]:
    """Seconds and share of the peak: forward, and backward, which recomputes the logits."""
    batch = packed(request(model.config.vocab_size))
    rows, time_ = batch.shape
    parts = [
        jax.tree.map(lambda x, i=i: x[i : i + MICRO_ROWS], batch)
        for i in range(0, rows, MICRO_ROWS)
    ]
    loss = policy_micro_loss(
        Transformer(model.config),
        LossConfig(),
        temperature=1.0,
        valid_ids=model.config.vocab_size,
        chunk=1024,
    )
    forward = jax.jit(lambda p, b: loss(p, b)[0])
    both = jax.jit(lambda p, b: jax.value_and_grad(loss, has_aux=True)(p, b)[1])
    params = jax.device_put(model.params)
    seconds = best_s(lambda: [forward(params, part) for part in parts])
    backward = best_s(lambda: [both(params, part) for part in parts]) - seconds
    peak, flops = gemm_peak(), forward_flops(model.config, rows, time_)
    passes = (("forward", seconds, flops), ("backward", backward, 2 * flops))
    return [
        {
            "model": model.name,
            "pass": name,
            "wall_s": spent,
            "flop": done,
            "peak_flop_per_s": peak,
            "share": done / spent / peak,
        }
        for name, spent, done in passes
    ]


def claims(found: dict[str, dict[str, list[Step]]]) -> dict[str, float]:
    """By peer, the least over the models; above 1 ours is faster."""
    return {
        f"varied_vs_{name}": min(beside.ratio(taken, name) for taken in found.values())
        for name in PEERS
    }


def main() -> None:
    """Measure, print the tables and the ratios, write the JSON file."""
    path = beside.json_argument(__doc__)
    for environment, _ in PEERS.values():
        beside.python_of(environment)
    found: dict[str, Taken] = {}
    raw: list[dict[str, Any]] = []
    with beside.models() as all_models:
        for model in all_models:
            taken = measure(model)
            title = f"{model.title}, update"
            print(beside.table(title, taken))
            filled = fill(packed(request(model.config.vocab_size)))
            print(f"\nour rows hold {filled.fraction:.0%} tokens", flush=True)
            found[model.name] = taken
            raw += beside.rows(title, taken)
            for share in shares(model):
                peak = share["peak_flop_per_s"] / 1e9
                print(f"{share['pass']}: {share['share']:.0%} of {peak:.0f} GFLOP/s")
                raw.append(share)
            print(flush=True)
    beside.finish(path, claims(found), raw)


if __name__ == "__main__":
    main()
