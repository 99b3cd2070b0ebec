"""How a task is put into words. A style is a module with the functions of `PromptStyle`.

Every prompt ends with an opened `<think>`; the completion goes on from there. `parse` reads what
comes back, one grammar per style.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from azr_jax.selfplay.drafts import DraftRules
from azr_jax.selfplay.prompts import compact, paper
from azr_jax.selfplay.triplet import Triplet

StyleName = Literal["compact", "paper"]


class PromptStyle(Protocol):
    """What a style offers. `TAGS` are its marks: no text inside a prompt may contain one.

    `rules`: what a proposed program must obey; a prompt in words says so.
    """

    @property
    def TAGS(self) -> tuple[str, ...]: ...

    def propose_deduction(self, references: Sequence[Triplet], rules: DraftRules) -> str: ...

    def propose_abduction(self, references: Sequence[Triplet], rules: DraftRules) -> str: ...

    def propose_induction(self, program: str, inputs: int) -> str: ...

    def solve_deduction(self, program: str, input: str) -> str: ...

    def solve_abduction(self, program: str, output: str) -> str: ...

    def solve_induction(self, message: str, pairs: Sequence[tuple[str, str]]) -> str: ...


STYLES: dict[StyleName, PromptStyle] = {"compact": compact, "paper": paper}
