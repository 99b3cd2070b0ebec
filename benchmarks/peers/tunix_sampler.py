"""google-tunix's vanilla sampler, as `benchmarks/sampler.py` asks for it.

    python tunix_sampler.py HF_FOLDER < requests.jsonl

Requests and answers are those of `torch_sampler.py`. The sampler decodes a batch in lock step until
its longest completion is done. It is told the longest length beforehand, which no run could know:
its cache and its buffers are as short as they can be.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from tunix.generate.sampler import CacheConfig, Sampler
from tunix_model import load


class Numbers:
    """A tokenizer whose text is numbers; no eos id is ever drawn."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def encode(self, text: str, **_: Any) -> list[int]:
        return [int(number) for number in text.split()]

    def decode(self, ids: list[int], **_: Any) -> str:
        return ""

    def bos_id(self) -> int:
        return 0  # as much as none

    def eos_id(self) -> int:
        return self.vocabulary + 1

    def pad_id(self) -> int:
        return 0


def main() -> None:
    """Serve requests on standard input and output."""
    model, config = load(sys.argv[1], remat=False)
    samplers: dict[int, Sampler] = {}
    for line in sys.stdin:
        request = json.loads(line)
        prompts, lengths, batch = request["prompts"], request["lengths"], request["batch"]
        width = max(map(len, prompts))
        size = width + max(lengths)
        if size not in samplers:
            cache = CacheConfig(size, config.num_layers, config.num_kv_heads, config.head_dim)
            samplers[size] = Sampler(model, Numbers(config.vocab_size), cache)
        started = time.monotonic()
        for i in range(0, len(prompts), batch):
            longest = max(lengths[i : i + batch])
            out = samplers[size](
                [" ".join(map(str, p)) for p in prompts[i : i + batch]],
                max_generation_steps=longest,
                max_prompt_length=width,
                temperature=1.0,
                top_p=1.0,
                seed=request["seed"],
            )
            assert all(len(tokens) == longest for tokens in out.tokens)
        wall_s = time.monotonic() - started
        print(json.dumps({"tokens": sum(lengths), "wall_s": wall_s}), flush=True)


if __name__ == "__main__":
    main()
