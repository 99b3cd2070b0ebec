"""A training step in torch and transformers, as `benchmarks/update.py` asks for it.

    python torch_update.py HF_FOLDER < requests.jsonl

A request is `{"prompts", "completions", "behaviour_logp", "advantages", "micro"}`; the answer
`{"tokens", "wall_s", "loss"}` counts the completions' tokens. `micro` samples at a time, prompts
padded on the left, completions on the right to the longest of the micro-batch; logits of the
completions only; clipped surrogate, mean over tokens; clip by global norm; fused AdamW. float32; on
a GPU the products are bfloat16, under autocast.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import torch
from torch_model import DEVICE, load, synchronize

PAD = 0
LEARNING_RATE = 1e-6


def padded(rows: list[list[Any]], width: int, left: bool, dtype: torch.dtype) -> torch.Tensor:
    """Rows of any length, filled up with zeros."""
    fill = [[PAD] * (width - len(row)) for row in rows]
    return torch.tensor(
        [f + r if left else r + f for r, f in zip(rows, fill, strict=True)],
        dtype=dtype,
        device=DEVICE,
    )


def micro_loss(model: Any, part: dict[str, list[Any]]) -> torch.Tensor:
    """The policy loss of a micro-batch, summed over tokens."""
    prompts, completions = part["prompts"], part["completions"]
    width, longest = max(map(len, prompts)), max(map(len, completions))
    targets = padded(completions, longest, False, torch.long)
    ids = torch.cat([padded(prompts, width, True, torch.long), targets], dim=1)
    ones = ([[1] * len(row) for row in rows] for rows in (prompts, completions))
    mask = padded(next(ones), width, True, torch.long)
    live = padded(next(ones), longest, False, torch.long)
    mask = torch.cat([mask, live], dim=1)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        logits_to_keep=longest + 1,
        use_cache=False,
    ).logits[:, :-1]
    chosen = logits.gather(-1, targets[..., None])[..., 0]
    logp = chosen - logits.logsumexp(dim=-1)
    behaviour = padded(part["behaviour_logp"], longest, False, torch.float32)
    advantage = torch.tensor(part["advantages"], device=DEVICE)[:, None]
    ratio = (logp - behaviour).clamp(-20, 20).exp()
    surrogate = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(0.8, 1.2))
    return (surrogate * live).sum()


def main() -> None:
    """Serve requests on standard input and output."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = load(sys.argv[1], torch.float32).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, fused=True
    )
    for line in sys.stdin:
        request = json.loads(line)
        micro = request.pop("micro")
        tokens = sum(map(len, request["completions"]))
        started = time.monotonic()
        total = 0.0
        for i in range(0, len(request["prompts"]), micro):
            part = {name: rows[i : i + micro] for name, rows in request.items()}
            with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda"):
                loss = micro_loss(model, part)
            (loss / tokens).backward()
            total += loss.item() / tokens
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        synchronize()
        wall_s = time.monotonic() - started
        print(json.dumps({"tokens": tokens, "wall_s": wall_s, "loss": total}), flush=True)


if __name__ == "__main__":
    main()
