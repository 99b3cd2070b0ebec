"""A training step of google-tunix's GRPO, as `benchmarks/update.py` asks for it.

    python tunix_update.py HF_FOLDER < requests.jsonl

Requests and answers are those of `torch_update.py`. Its trainer, its GRPO loss without KL, mean
over tokens, optax's AdamW behind a clip; `micro` samples at a time by its gradient accumulation.
All rows are padded to the longest prompt and completion of the batch, to have one shape.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import jax
import numpy as np
import optax
from tunix.rl.algo_core import grpo_loss_fn
from tunix.rl.common import TrainExample
from tunix.rl.grpo.grpo_learner import GRPOConfig
from tunix.rl.trainer import Trainer
from tunix.sft.peft_trainer import TrainingConfig
from tunix_model import load

PAD = 0
LEARNING_RATE = 1e-6


def padded(rows: list[list[Any]], width: int, left: bool, dtype: Any) -> np.ndarray:
    """Rows of any length, filled up with zeros."""
    out = np.zeros((len(rows), width), dtype)
    for row, values in zip(out, rows, strict=True):
        row[slice(width - len(values), None) if left else slice(len(values))] = values
    return out


def example(request: dict[str, Any], part: slice, width: int, longest: int) -> TrainExample:
    """A micro-batch."""
    prompts = padded(request["prompts"][part], width, True, np.int32)
    completions = padded(request["completions"][part], longest, False, np.int32)
    return TrainExample(
        prompt_ids=prompts,
        prompt_mask=prompts != PAD,
        completion_ids=completions,
        completion_mask=completions != PAD,
        advantages=np.asarray(request["advantages"][part], np.float32),
        ref_per_token_logps=None,
        old_per_token_logps=padded(request["behaviour_logp"][part], longest, False, np.float32),
    )


def trainer_of(model: Any, pieces: int, eos_id: int) -> Any:
    """Its trainer; a step is applied after so many micro-batches."""
    config = GRPOConfig(beta=0.0, epsilon=0.2, loss_agg_mode="token-mean")
    config.temperature = 1.0
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(LEARNING_RATE, weight_decay=0.01)
    )
    training = TrainingConfig(
        eval_every_n_steps=1_000_000, gradient_accumulation_steps=pieces if pieces > 1 else None
    )
    trainer = Trainer(model, optimizer, training, custom_checkpoint_metadata_fn=dict)

    def loss(model: Any, train_example: TrainExample, algo_config: Any) -> Any:
        return grpo_loss_fn(model, train_example, algo_config=config, pad_id=PAD, eos_id=eos_id)

    trainer.with_loss_fn(loss, has_aux=True)
    trainer.with_gen_model_input_fn(lambda x: {"train_example": x, "algo_config": config})
    return trainer


def main() -> None:
    """Serve requests on standard input and output."""
    model, config = load(sys.argv[1], remat=True)
    trainer = None
    for line in sys.stdin:
        request = json.loads(line)
        count, micro = len(request["prompts"]), request["micro"]
        if trainer is None:
            trainer = trainer_of(model, count // micro, config.vocab_size + 1)
        tokens = sum(map(len, request["completions"]))
        started = time.monotonic()
        width, longest = (max(map(len, request[name])) for name in ("prompts", "completions"))
        step, _ = trainer.jit_train_and_eval_step()
        losses = []
        for i in range(0, count, micro):
            losses.append(step(example(request, slice(i, i + micro), width, longest))[0])
        jax.block_until_ready((losses, trainer.model, trainer.optimizer))
        wall_s = time.monotonic() - started
        mean = float(np.mean([float(loss) for loss in losses]))
        print(json.dumps({"tokens": tokens, "wall_s": wall_s, "loss": mean}), flush=True)


if __name__ == "__main__":
    main()
