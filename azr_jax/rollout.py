"""What the game asks of the model, as prompts of the sampler, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from azr_jax.model.sampler import Completion, Prompt
from azr_jax.selfplay.play import Answer, Proposal, Request
from azr_jax.selfplay.state import Purpose

PURPOSES = get_args(Purpose)
EVALUATE = PURPOSES.index("evaluate")


@dataclass(frozen=True)
class Rollout:
    """A request, what the model wrote, and what the sandbox said of it."""

    request: Request
    completion: Completion
    verdict: Proposal | Answer

    @property
    def proposal(self) -> Proposal:
        assert isinstance(self.verdict, Proposal)
        return self.verdict

    @property
    def answer(self) -> Answer:
        assert isinstance(self.verdict, Answer)
        return self.verdict


def prompts_of(
    requests: Sequence[Request], encode: Callable[[str], Sequence[int]], step: int
) -> tuple[list[Prompt], list[int]]:
    """One Prompt a run of requests with the same text, and the index of its first request."""
    prompts: list[Prompt] = []
    members: list[int] = []
    position = 0
    while position < len(requests):
        first = requests[position]
        end = position + 1
        while (
            end < len(requests)
            and first.purpose == "estimate"
            and requests[end].prompt == first.prompt
            and requests[end].index == first.index + end - position
        ):
            end += 1
        stream = (step, PURPOSES.index(first.purpose), first.group, first.index)
        prompts.append(Prompt(tuple(encode(first.prompt)), end - position, stream))
        members.append(position)
        position = end
    return prompts, members
