"""Makes tests/goldens/hf: random models of every family, and what transformers computes with them.

    python tests/goldens/make_hf.py

Independent of azr_jax: torch and transformers only. Shapes are odd on purpose: few key-value heads,
a head width that is not d_model / heads, a vocabulary that no power of two divides. Weights are
stored in bfloat16 (one model in float32, one in several files), logits are computed in float32.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

OUT = Path(__file__).parent / "hf"
BATCH, TIME = 2, 40
SHAPE = {
    "vocab_size": 101,
    "hidden_size": 42,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 52,
    "max_position_embeddings": 512,
}
LLAMA3 = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
    "rope_theta": 500_000.0,
}
QWEN = {"rope_type": "default", "rope_theta": 1_000_000.0}
CASES: dict[str, dict[str, Any]] = {
    "qwen2_tied": {"rope_parameters": QWEN, "tie_word_embeddings": True},
    "qwen2_untied": {"rope_parameters": QWEN, "rms_norm_eps": 1e-5, "tie_word_embeddings": False},
    "qwen3_tied": {"rope_parameters": QWEN, "tie_word_embeddings": True},
    "qwen3_untied": {"rope_parameters": QWEN, "tie_word_embeddings": False},
    "llama3_1": {
        "rope_parameters": LLAMA3 | {"factor": 8.0},
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    },
    "llama3_2": {
        "rope_parameters": LLAMA3 | {"factor": 32.0},
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    },
    "tiny": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "tie_word_embeddings": True,
    },
}
FAMILIES = {"qwen2": "Qwen2", "qwen3": "Qwen3", "llama3": "Llama", "tiny": "Llama"}
FLOAT32, SHARDED = "tiny", "qwen3_untied"


def build(case: str, seed: int, **options: Any) -> Any:
    """A random model of the case, in float32, with values that its stored dtype can hold."""
    family = FAMILIES[case.partition("_")[0]]
    config = getattr(transformers, f"{family}Config")(
        **(SHAPE | CASES[case] | {"eos_token_id": 1, "pad_token_id": 0} | options),
        bos_token_id=None,
        attn_implementation="eager",
    )
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            # Large enough that every weight matters to the logits.
            value = 0.2 * noise + ("norm" in name)
            weight.copy_(value if case == FLOAT32 else value.bfloat16().float())
    return model


def logits_of(model: Any, tokens: np.ndarray) -> np.ndarray:
    """float32 [b, t, v]."""
    with torch.no_grad():
        logits: np.ndarray = model(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
    return logits


def save(model: Any, case: str, folder: Path) -> None:
    """In bfloat16, or as the case has it."""
    if case != FLOAT32:
        model = model.to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="40KB" if case == SHARDED else "1GB")


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    for seed, case in enumerate(CASES):
        model = build(case, seed)
        rng = np.random.default_rng(seed)
        tokens = rng.integers(0, SHAPE["vocab_size"], (BATCH, TIME)).astype(np.int32)
        logits = logits_of(model, tokens)
        save(model, case, OUT / case)
        np.savez_compressed(OUT / case / "golden.npz", tokens=tokens, logits=logits)
        print(f"{case}: |logit| up to {np.abs(logits).max():.1f}")


if __name__ == "__main__":
    main()
