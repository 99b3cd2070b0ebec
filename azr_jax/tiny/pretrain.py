"""Making the embedded tiny model: its tokenizer, its corpus, and a few thousand plain updates.

Every batch is a function of (seed, step). Three stretches: first mostly execution with many traces,
since looking up comes before everything else; then more of the rest; then the rate falls to zero
with few traces, so that the model mostly answers at once and self-play finds out what thinking is
worth.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gin

from azr_jax.learn.batching import Batch, Sample, fill, pack
from azr_jax.learn.checkpoint import Checkpoints, describe
from azr_jax.learn.optimizer import OptimizerConfig, make_optimizer
from azr_jax.learn.state import TrainState, abstract_state, init_state
from azr_jax.learn.update import make_supervised_update
from azr_jax.model import hf
from azr_jax.model.config import ModelConfig
from azr_jax.model.sharding import MeshConfig, make_mesh
from azr_jax.model.tokenizer import Tokenizer, load_tokenizer
from azr_jax.model.transformer import Transformer
from azr_jax.report.progress import Progress
from azr_jax.tiny import corpus, tokens

MODEL = ModelConfig(
    vocab_size=416,
    d_model=128,
    layers=5,
    heads=4,
    kv_heads=2,
    head_dim=32,
    d_ff=384,
    max_positions=2048,
)
FILL = 0.955
"""Share of a batch's tokens that documents are drawn for: what first-fit packing can place."""


STRETCHES = (
    corpus.Mix(kinds=(0.40, 0.24, 0.20, 0.12, 0.04), think=0.6),
    corpus.Mix(kinds=(0.28, 0.18, 0.39, 0.09, 0.06), think=0.6),
    corpus.Mix(kinds=(0.28, 0.18, 0.39, 0.09, 0.06), think=0.2),
)


@gin.configurable
@dataclass(frozen=True)
class PretrainConfig:
    """The recipe of the shipped weights.

    steps: the lengths of the three stretches; the learning rate falls to zero over the last.
    rows x row_tokens: one batch.
    """

    steps: tuple[int, int, int] = (3750, 2000, 1750)
    learning_rate: float = 2e-3
    rows: int = 16
    row_tokens: int = 256
    seed: int = 0
    save_every: int = 500

    @property
    def total_steps(self) -> int:
        return sum(self.steps)

    def mix(self, step: int) -> corpus.Mix:
        first, second, _ = self.steps
        return STRETCHES[(step >= first) + (step >= first + second)]


def pretrain(out: Path, config: PretrainConfig) -> None:
    """Train from scratch, or go on from the newest checkpoint in `out`, and write the model there.

    `out` becomes a Hugging Face folder: config, safetensors, both tokenizers.
    """
    tokens.write_tokenizer(out)
    tokenizer = load_tokenizer(out)
    model, mesh = Transformer(MODEL), make_mesh(MeshConfig())
    optimizer = make_optimizer(
        OptimizerConfig(
            learning_rate=config.learning_rate,
            warmup_steps=200,
            decay="linear",
            decay_steps=config.steps[-1],
            b2=0.98,
        ),
        config.total_steps,
    )
    update = make_supervised_update(
        model, optimizer, mesh, valid_ids=tokenizer.vocab_size, micro_rows=config.rows
    )
    with (
        Checkpoints(out / "checkpoints", keep=1) as checkpoints,
        Progress("azr pretrain", config.total_steps) as progress,
    ):
        found = checkpoints.restore_latest(abstract_state(model, optimizer, mesh))
        state = found[0] if found else init_state(model, optimizer, mesh, config.seed)
        meta = describe(MODEL, gin_config=gin.config_str(), sandbox_level="none")
        progress.phase("training")
        since = time.monotonic()
        for step, batch in _batches(config, tokenizer, int(state.step)):
            state, metrics = update(state, batch)
            if (step + 1) % 10 == 0:
                spent, since = time.monotonic() - since, time.monotonic()
                speed = 10 * fill(batch).tokens / spent
                progress.step({"step": step, "loss": float(metrics["loss"]), "tokens_per_s": speed})
            if (step + 1) % config.save_every == 0:
                checkpoints.save(step + 1, state, {}, meta)
    write_model(out, state, tokenizer)


def write_model(out: Path, state: TrainState, tokenizer: Tokenizer) -> None:
    """config.json and model.safetensors beside the tokenizer."""
    hf.write_config(out, MODEL, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id)
    hf.write_params(out, state.params, MODEL)


def batch_of(config: PretrainConfig, tokenizer: Tokenizer, step: int) -> Batch:
    """The batch of one step: documents until they fill it."""
    rng = random.Random(f"{config.seed}/pretrain/{step}")
    documents = corpus.documents(rng, config.mix(step))
    groups: list[list[Sample]] = []
    size = 0
    while size < FILL * config.rows * config.row_tokens:
        group = [_sample(tokenizer, example) for example in next(documents)]
        length = len(group[0].prompt) + sum(len(s.completion) for s in group)
        if length <= config.row_tokens:
            groups.append(group)
            size += length
    while True:
        samples = [sample for group in groups for sample in group]
        batch = pack(samples, config.row_tokens, rows=config.rows)
        if batch.shape[0] == config.rows:
            return batch
        groups.pop()


def _batches(
    config: PretrainConfig, tokenizer: Tokenizer, start: int
) -> Iterator[tuple[int, Batch]]:
    """Batches from `start` on, made by a thread while the device computes."""
    ahead: queue.Queue[tuple[int, Batch]] = queue.Queue(maxsize=4)

    def produce() -> None:
        for step in range(start, config.total_steps):
            ahead.put((step, batch_of(config, tokenizer, step)))

    threading.Thread(target=produce, name="corpus", daemon=True).start()
    for _ in range(start, config.total_steps):
        yield ahead.get()


def _sample(tokenizer: Tokenizer, example: corpus.Example) -> Sample:
    completion = tuple(tokenizer.encode(example.completion))
    return Sample(
        prompt=tuple(tokenizer.encode(example.prompt)),
        completion=completion,
        behaviour_logp=(0.0,) * len(completion),
    )
