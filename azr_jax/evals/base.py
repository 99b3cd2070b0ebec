"""Is a base fit for self-play? The check that `azr pretrain` ends with, and its bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from azr_jax.evals.harness import BENCHMARKS, EvalTask, evaluate, load_tasks
from azr_jax.model.sampler import Completion, Prompt
from azr_jax.selfplay import seeds
from azr_jax.selfplay.play import Answer, Pending, Proposal, Request, SelfPlay, SelfPlayState

FORCED = {"deduction": "x=", "abduction": "return "}
"""How a trace of the tiny model begins; `</think>` as the opening forces a direct answer."""


@dataclass(frozen=True)
class Check:
    """One measured number and the range that self-play wants it in."""

    name: str
    value: float
    low: float
    high: float = 1.0

    @property
    def passed(self) -> bool:
        return self.low <= self.value <= self.high


def check_base(
    play: SelfPlay,
    sample: Callable[[Sequence[Prompt], float], Iterator[Completion]],
    encode: Callable[[str], Sequence[int]],
) -> list[Check]:
    """Thinking against direct answers, induction, and the first step of play from zero.

    `sample` takes prompts with a `stream` and must key its randomness by it.
    """
    tasks = load_tasks(BENCHMARKS["tiny-dev"])

    def greedy(chosen: Sequence[EvalTask], opening: str = "") -> float:
        right = evaluate(chosen, play, sample, encode, samples=1, temperature=0.0, opening=opening)
        return float(right.mean())

    hard = [t for t in tasks if t.task_type == "deduction" and t.category != "level 1"]
    easy = [t for t in tasks if t.task_type == "induction" and t.category == "level 1"]
    gap = greedy(hard, FORCED["deduction"]) - greedy(hard, "</think>")
    state = seed_from_zero(play, sample, encode)
    proposals = play.compare(
        state, _proposals(play, play.propose_requests(state, 0), 0, sample, encode)
    )
    estimates = play.estimate_requests(proposals)
    answers = [a for a in rollout(play, estimates, 1, sample, encode) if isinstance(a, Answer)]
    rates = play.solve_rates(proposals, answers)
    valid = [p for p in proposals if p.valid]
    judged = [p for p in proposals if p.status != "HELD_OUT"]

    def known(*task_types: str) -> list[float]:
        pairs = zip(proposals, rates, strict=True)
        return [r for p, r in pairs if r is not None and p.request.task_type in task_types]

    written = known("deduction", "abduction")
    return [
        Check("valid proposals", len(valid) / max(len(judged), 1), 0.60),
        Check("forced thinking - direct answers, deduction of levels 2-3", gap, 0.15),
        Check("induction of level 1", greedy(easy), 0.30),
        Check("first step: solve rate of deduction", _mean(known("deduction")), 0.3, 0.7),
        Check("first step: solve rate of abduction", _mean(known("abduction")), 0.3, 0.7),
        Check("first step: learnable tasks", _mean([0 < r < 1 for r in written]), 0.40),
        Check("first step: duplicates", _mean([not p.novel for p in valid]), 0.0, 0.10),
    ]


def seed_from_zero(
    play: SelfPlay,
    sample: Callable[[Sequence[Prompt], float], Iterator[Completion]],
    encode: Callable[[str], Sequence[int]],
) -> SelfPlayState:
    """Buffers that the model fills from the zero triplet alone."""
    rounds = iter(range(1_000_000))

    def propose(requests: Sequence[Request]) -> list[Proposal]:
        return _proposals(play, requests, -1 - next(rounds), sample, encode)

    state, _ = seeds.self_seed(play, play.start(), propose)
    return state


def rollout(
    play: SelfPlay,
    requests: Sequence[Request],
    step: int,
    sample: Callable[[Sequence[Prompt], float], Iterator[Completion]],
    encode: Callable[[str], Sequence[int]],
) -> list[Proposal | Answer]:
    """One sample at temperature 1 for each request, checked."""
    prompts = [Prompt(tuple(encode(r.prompt)), stream=(step, r.group, r.index)) for r in requests]
    pending: dict[int, Pending[Proposal] | Pending[Answer]] = {}
    for done in sample(prompts, 1.0):
        request = requests[done.prompt]
        if request.role == "propose":
            pending[done.prompt] = play.submit_proposal(request, done.text)
        else:
            pending[done.prompt] = play.submit_answer(request, done.text)
    return [pending[i].result() for i in range(len(requests))]


def _proposals(
    play: SelfPlay,
    requests: Sequence[Request],
    step: int,
    sample: Callable[[Sequence[Prompt], float], Iterator[Completion]],
    encode: Callable[[str], Sequence[int]],
) -> list[Proposal]:
    checked = rollout(play, requests, step, sample, encode)
    return [p for p in checked if isinstance(p, Proposal)]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
