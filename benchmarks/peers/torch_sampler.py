"""transformers.generate, as `benchmarks/sampler.py` asks for it.

    python torch_sampler.py HF_FOLDER < requests.jsonl

A request is `{"prompts", "lengths", "batch", "seed"}`; the answer `{"tokens", "wall_s"}` counts the
useful tokens: as many of each completion as `lengths` says. Prompts go in batches, padded on the
left; a batch runs until its longest completion is done. KV cache, plain sampling at temperature 1,
no top-p or top-k. float32; random weights on a GPU are bfloat16.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import torch
from torch_model import DEVICE, load, synchronize
from transformers import StoppingCriteria, StoppingCriteriaList

PAD = 0


class Enough(StoppingCriteria):
    """Stops each row at its own length."""

    def __init__(self, start: int, lengths: list[int]) -> None:
        self.limits = start + torch.tensor(lengths, device=DEVICE)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return input_ids.shape[1] >= self.limits


def generate(model: Any, prompts: list[list[int]], lengths: list[int]) -> int:
    """One batch; the useful tokens."""
    width = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (width - len(p)) + p for p in prompts], device=DEVICE)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=DEVICE)
    out = model.generate(
        ids,
        attention_mask=mask,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=max(lengths),
        stopping_criteria=StoppingCriteriaList([Enough(width, lengths)]),
    )
    assert out.shape[1] == width + max(lengths)
    return sum(lengths)


def main() -> None:
    """Serve requests on standard input and output."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = load(sys.argv[1], torch.bfloat16).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = PAD
    for line in sys.stdin:
        request = json.loads(line)
        prompts, lengths, batch = request["prompts"], request["lengths"], request["batch"]
        torch.manual_seed(request["seed"])
        started = time.monotonic()
        with torch.inference_mode():
            tokens = sum(
                generate(model, prompts[i : i + batch], lengths[i : i + batch])
                for i in range(0, len(prompts), batch)
            )
        synchronize()
        print(json.dumps({"tokens": tokens, "wall_s": time.monotonic() - started}), flush=True)


if __name__ == "__main__":
    main()
