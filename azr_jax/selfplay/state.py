"""What goes through a step of self-play: the configuration, the state, and plain records.

All records are frozen; what one process found of a completion is told to the others as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, get_args

from azr_jax.errors import UserError
from azr_jax.selfplay.buffer import Buffer, Eviction
from azr_jax.selfplay.drafts import DraftRules
from azr_jax.selfplay.prompts import STYLES, StyleName
from azr_jax.selfplay.triplet import (
    TASK_TYPES,
    Role,
    Task,
    TaskType,
    Triplet,
    group_of,
    task_from_json,
    task_to_json,
)
from sandbox import Outcome
from sandbox.policy import PolicyConfig

Purpose = Literal["propose", "solve", "estimate", "seed", "evaluate"]
"""Its order keys the randomness of samples: append only."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PlayConfig:
    """The rules of one run's game.

    task_types: the types that are played.
    batch_size: trained completions per (role, task type): B.
    references: past triplets that a proposer is shown: K. Fewer where the buffer or the prompt
        has no room for more. include_references False shows none: the paper's K = 0 ablation.
    samples_per_task: solver samples that estimate a new task's solve rate: G.
    induction_inputs: inputs of an induction task: N; half are shown, half hidden.
    solver_lag: 1: the solver works on what earlier steps proposed (the original's code);
        0: on this step's proposals too (the paper's algorithm box). With 0, call `remember`
        before `solve_requests`.
    recent_window: the newest so many steps' tasks are solved before older ones.
    buffer_size: tasks per task type. eviction: what a full buffer does with a new task: see
        `Buffer`.
    seed_target: tasks per buffer that seeding aims at.
    known_tasks: what a proposal is worth whose task its buffer (or an earlier proposal of the
        step) has already. "unpaid": it has learnability 0 and is not kept, so that copying a
        reference never pays. "stored": it is paid and kept once more, as in the original, where
        the solver then trains on it as often as it was proposed.
    induction_pairs: the pairs that an induction answer must satisfy in training: "all", or
        "hidden" (the paper), where what contradicts a shown pair may be right. Evaluations ask
        for all of them.
    duplicate_limit: a deduction or abduction program that its buffer holds this often already
        has nothing left to teach: learnability 0, and not kept. 0: no limit.
    max_prompt_tokens: no prompt is longer.
    policy, reject_multiple_functions, hold_out: see `DraftRules`.
    """

    task_types: tuple[TaskType, ...] = TASK_TYPES
    batch_size: int = 64
    references: int = 6
    include_references: bool = True
    samples_per_task: int = 8
    induction_inputs: int = 10
    prompt_style: StyleName = "paper"
    solver_lag: int = 1
    recent_window: int = 1
    buffer_size: int = 16384
    eviction: Eviction = "oldest"
    known_tasks: Literal["unpaid", "stored"] = "unpaid"
    induction_pairs: Literal["all", "hidden"] = "all"
    seed_target: int = 256
    duplicate_limit: int = 0
    max_prompt_tokens: int = 6144
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    reject_multiple_functions: bool = False
    hold_out: bool = False

    @property
    def rules(self) -> DraftRules:
        return DraftRules(self.policy, self.reject_multiple_functions, self.hold_out)

    def __post_init__(self) -> None:
        if not self.task_types or not set(self.task_types) <= set(TASK_TYPES):
            raise UserError(f"task_types are some of {TASK_TYPES}, not {self.task_types}")
        if len(set(self.task_types)) < len(self.task_types):
            raise UserError(f"a task type is named twice: {self.task_types}")
        if self.prompt_style not in STYLES:
            raise UserError(f"prompt_style is one of {tuple(STYLES)}, not {self.prompt_style!r}")
        if self.solver_lag not in (0, 1):
            raise UserError(f"solver_lag is 0 or 1, not {self.solver_lag}")
        choices = {
            "eviction": get_args(Eviction),
            "known_tasks": ("unpaid", "stored"),
            "induction_pairs": ("all", "hidden"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} is one of {allowed}, not {getattr(self, name)!r}")
        at_least = {
            "batch_size": 1,
            "references": 0,
            "induction_inputs": 4,  # two shown and two hidden, whose outputs can differ
            "recent_window": 0,
            "buffer_size": 1,
            "seed_target": 0,
            "duplicate_limit": 0,
            "max_prompt_tokens": 1,
        }
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise UserError(f"{name} is at least {least}, not {getattr(self, name)}")
        if self.samples_per_task < 2:
            raise UserError(
                f"samples_per_task is at least 2, not {self.samples_per_task}: with one sample the "
                "solve rate is 0 or 1 and learnability always 0"
            )


@dataclass(frozen=True)
class SelfPlayState:
    """All that the game remembers: three buffers (also of types that are not played) and totals.

    counters: `<purpose>/<task type>/<proposed|valid|novel>`.
    """

    buffers: Mapping[TaskType, Buffer]
    counters: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        buffers = {name: buffer.to_json() for name, buffer in self.buffers.items()}
        return {"buffers": buffers, "counters": dict(self.counters)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> SelfPlayState:
        buffers = {t: Buffer.from_json(value["buffers"][t]) for t in TASK_TYPES}
        return SelfPlayState(buffers, dict(value["counters"]))


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt for the sampler. (purpose, task_type, index) is unique within a step."""

    purpose: Purpose
    task_type: TaskType
    index: int
    prompt: str
    task: Task | None = None  # what a solver works on
    references: tuple[Triplet, ...] = ()  # what a proposer was shown

    @property
    def role(self) -> Role:
        return "propose" if self.purpose in ("propose", "seed") else "solve"

    @property
    def group(self) -> int:
        return group_of(self.role, self.task_type)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposer's completion after the filter. `task` is None unless `status` is OK.

    status: OK, FORMAT (a part is missing), REJECTED (by a rule; see `reason`), TOO_LONG (valid,
    but no solver's prompt can hold it), HELD_OUT, or the sandbox's word; INFRA: nobody knows.
    novel: neither the buffer nor an earlier proposal of the step has the same task, as far as
        `compare` has found.
    copies: how often they have its program.
    """

    request: Request
    text: str
    task: Task | None
    status: str
    reason: str
    well_formed: bool
    novel: bool = True
    copies: int = 0

    @property
    def valid(self) -> bool:
        return self.status in ("OK", "TOO_LONG")

    def to_json(self) -> dict[str, Any]:
        """What the check of `request` and `text` has found, as one process tells the others."""
        task = None if self.task is None else task_to_json(self.task)
        found = {"task": task, "status": self.status, "reason": self.reason}
        return found | {"well_formed": self.well_formed}

    @staticmethod
    def from_json(request: Request, text: str, found: Mapping[str, Any]) -> Proposal:
        task = None if found["task"] is None else task_from_json(found["task"])
        return Proposal(request, text, task, found["status"], found["reason"], found["well_formed"])


@dataclass(frozen=True, slots=True)
class Answer:
    """A solver's completion after the check. accuracy None: masked, the infrastructure failed."""

    request: Request
    text: str
    accuracy: float | None
    status: str
    well_formed: bool

    def to_json(self) -> dict[str, Any]:
        """As `Proposal.to_json`."""
        found = {"accuracy": self.accuracy, "status": self.status}
        return found | {"well_formed": self.well_formed}

    @staticmethod
    def from_json(request: Request, text: str, found: Mapping[str, Any]) -> Answer:
        return Answer(request, text, found["accuracy"], found["status"], found["well_formed"])


@dataclass(frozen=True, slots=True)
class Scored:
    """A completion and what it earned. reward None: masked. correct None: no answer, or masked."""

    request: Request
    text: str
    reward: float | None
    correct: bool | None
    well_formed: bool
    status: str


@dataclass(frozen=True, slots=True)
class Pending(Generic[T]):
    """A check under way: submit while other completions still decode, ask for `result` later."""

    outcome: Future[Outcome] | None
    read: Callable[[Outcome | None], T]

    def result(self) -> T:
        return self.read(self.outcome.result() if self.outcome else None)
