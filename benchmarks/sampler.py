"""Our sampler beside transformers.generate and google-tunix's vanilla sampler.

    python benchmarks/sampler.py [--json FILE]

Hardware: 2 CPU cores. Time: about five minutes. Needs `make peers`. The embedded tiny model and one
of 16M random parameters, float32 on all sides, the same weights, prompts, lengths and threads, in
turns, in one run; temperature 1. Every prompt is another one, so that nothing is gained from
sharing. Lengths are forced, so only useful tokens count: "varied" ones are heavy-tailed. Compiling
and warm-up stay outside the clock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

# Beside this script stands `sandbox.py`, which is not the package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import jax

from azr_jax.model.sampler import Prompt, Sampler, SamplerConfig
from azr_jax.model.sharding import MeshConfig, make_mesh
from azr_jax.model.transformer import Transformer
from benchmarks import beside
from benchmarks.beside import Ask, Model, Taken, Took

PEERS = {"transformers": ("torch", "torch_sampler.py"), "tunix": ("tunix", "tunix_sampler.py")}
LONGEST, LONGEST_PROMPT = 256, 48
SLOTS = 64
ROUNDS = 3


@dataclass(frozen=True)
class Case:
    """Prompts and the number of tokens to draw for each."""

    name: str
    lengths: Sequence[int]


CASES = (
    Case("varied", beside.heavy_tailed(128, LONGEST, seed=0)),
    Case("equal", [LONGEST // 2] * SLOTS),
)


class Numbers:
    """A tokenizer without text, whose completions never end by themselves."""

    eos_id, eos_ids, pad_id = -1, (-1,), 0

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def encode(self, text: str) -> list[int]:
        return []

    def decode(self, ids: Sequence[int]) -> str:
        return ""


def ours(model: Model, prompts: list[list[int]], case: Case) -> Callable[[int], Took]:
    """Our sampler; a round's number is its seed."""
    longest = max(case.lengths)
    config = SamplerConfig(
        slots=SLOTS,
        max_prompt_tokens=LONGEST_PROMPT,
        max_new_tokens=longest,
        stop_strings=(),
        prefill_rows=16,
        cache_sizes=4,
        slot_sizes=4,
    )
    mesh = make_mesh(MeshConfig())
    tokenizer = Numbers(model.config.vocab_size)
    sampler = Sampler(Transformer(model.config), config, mesh, tokenizer, seed=0)
    params = jax.device_put(model.params)

    def one_round(number: int) -> Took:
        started = time.monotonic()
        asked = [
            Prompt(tuple(tokens), stream=(number, index), max_new_tokens=length)
            for index, (tokens, length) in enumerate(zip(prompts, case.lengths, strict=True))
        ]
        found = list(sampler.stream(params, asked, temperature=1.0))
        took = time.monotonic() - started
        assert all(len(c.tokens) == case.lengths[c.prompt] for c in found)
        return Took(sum(len(c.tokens) for c in found), took)

    return one_round


def theirs(ask: Ask, prompts: list[list[int]], case: Case, compiles: bool) -> Callable[[int], Took]:
    """A peer; one that compiles nothing is warm after a few tokens."""

    def one_round(number: int) -> Took:
        lengths = case.lengths
        if number == 0 and not compiles:
            lengths = [min(length, 8) for length in lengths]
        request = {"prompts": prompts, "lengths": lengths, "batch": SLOTS, "seed": number}
        return Took(**ask(request))

    return one_round


def measure(model: Model, case: Case) -> Taken:
    """All rounds of one case."""
    prompts = beside.prompts(len(case.lengths), model.config.vocab_size, seed=1)
    with ExitStack() as stack:
        sides = {"ours": ours(model, prompts, case)}
        for name, (environment, script) in PEERS.items():
            ask = stack.enter_context(beside.peer(environment, script, model.folder))
            sides[name] = theirs(ask, prompts, case, compiles=name == "tunix")
        return beside.in_turns(f"{model.title}, {case.name} lengths", sides, ROUNDS)


def claims(found: dict[tuple[str, str], Taken]) -> dict[str, float]:
    """By case and peer, the least over the models; above 1 ours is faster."""
    return {
        f"{case.name}_vs_{name}": min(
            beside.ratio(taken, name) for (_, of), taken in found.items() if of == case.name
        )
        for case in CASES
        for name in PEERS
    }


def main() -> None:
    """Measure, print the tables and the ratios, write the JSON file."""
    path = beside.json_argument(__doc__)
    for environment, _ in PEERS.values():
        beside.python_of(environment)
    found, raw = {}, []
    with beside.models() as all_models:
        for model in all_models:
            for case in CASES:
                taken = measure(model, case)
                title = f"{model.title}, {case.name} lengths"
                print(beside.table(title, taken) + "\n", flush=True)
                found[model.name, case.name] = taken
                raw += beside.rows(title, taken)
    beside.finish(path, claims(found), raw)


if __name__ == "__main__":
    main()
