"""One step of self-play, in the order in which `train` calls it.

    propose_requests, solve_requests → (the sampler) → filter, grade → estimate_requests
    → (the sampler) → grade → solve_rates → reward → remember

Nothing here keeps state between calls: `SelfPlayState` goes in and a new one comes out, and every
draw is a function of (seed, step, purpose, index).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

from azr_jax.errors import UserError
from azr_jax.selfplay import drafts, parse
from azr_jax.selfplay.buffer import SEED_STEP, Buffer, Entry, rng
from azr_jax.selfplay.checks import Alone, Checks, Peers
from azr_jax.selfplay.drafts import Rejected
from azr_jax.selfplay.prompts import STYLES
from azr_jax.selfplay.rewards import (
    RewardConfig,
    proposer_reward,
    score,
    solve_rate,
    solver_reward,
)
from azr_jax.selfplay.state import (
    Answer,
    Pending,
    PlayConfig,
    Proposal,
    Purpose,
    Request,
    Scored,
    SelfPlayState,
)
from azr_jax.selfplay.tasks import TASKS, solve_prompt
from azr_jax.selfplay.triplet import (
    TASK_TYPES,
    ZERO_INDUCTION_TASK,
    ZERO_TRIPLET,
    InductionTask,
    Task,
    TaskType,
    Triplet,
)
from azr_jax.selfplay.verdict import Check, Verdict
from sandbox import Outcome, Sandbox

__all__ = [
    "Answer",
    "Pending",
    "PlayConfig",
    "Proposal",
    "Request",
    "Scored",
    "SelfPlay",
    "SelfPlayState",
]

# A proposal that nobody could check, or that a hash turned away, is neither good nor bad.
_NOT_ITS_FAULT = ("INFRA", "HELD_OUT")


class SelfPlay:
    """The game's rules at work; holds no state that changes.

    count_tokens: the length of a prompt as the sampler will see it. peers: the processes that share
    the checks; none: all are made here.
    """

    def __init__(
        self,
        config: PlayConfig,
        rewards: RewardConfig,
        box: Sandbox,
        count_tokens: Callable[[str], int],
        seed: int,
        peers: Peers | None = None,
    ):
        self.config = config
        self.rewards = rewards
        self.box = box
        self.count_tokens = count_tokens
        self.seed = seed
        self.peers = peers or Alone()
        # An accepted program may have run close to its limits: it must not fail later by noise.
        limits = box.limits
        self._patient = replace(limits, cpu_s=2 * limits.cpu_s, wall_s=2 * limits.wall_s)

    def start(
        self,
        triplets: Sequence[Triplet] = (ZERO_TRIPLET,),
        induction_tasks: Sequence[InductionTask] = (ZERO_INDUCTION_TASK,),
    ) -> SelfPlayState:
        """The state before the first step: seeds that have been run, or the identity function."""
        empty = Buffer(self.config.buffer_size, eviction=self.config.eviction)
        seeded = empty.add(triplets, SEED_STEP)
        return SelfPlayState(
            {
                "deduction": seeded,
                "abduction": seeded,
                "induction": empty.add(induction_tasks, SEED_STEP),
            },
            {},
        )

    # --- prompts ---------------------------------------------------------------------------

    def propose_requests(self, state: SelfPlayState, step: int) -> list[Request]:
        """B for each task type."""
        return self._propose(state, self.config.task_types, "propose", step)

    def seed_requests(
        self, state: SelfPlayState, task_types: Sequence[TaskType], round: int
    ) -> list[Request]:
        """B for each of the task types; like a step's, but drawn per round of seeding."""
        return self._propose(state, task_types, "seed", round)

    def solve_requests(self, state: SelfPlayState, step: int) -> list[Request]:
        """B for each task type, newest tasks first; none for a type without a task that fits.

        Prompts are measured before they are chosen, so the batch is full whatever their lengths;
        where there are fewer than B tasks some are drawn again.
        """
        requests = []
        since = step - self.config.solver_lag - self.config.recent_window + 1
        for task_type in self.config.task_types:
            draw = rng(self.seed, step, f"solve/{task_type}")
            chosen: list[tuple[Task, str]] = []
            for task in state.buffers[task_type].newest_first(since, draw):
                prompt = solve_prompt(self.config.prompt_style, task_type, task)
                if self._fits(prompt):
                    chosen.append((task, prompt))
                if len(chosen) == self.config.batch_size:
                    break
            if chosen:
                missing = self.config.batch_size - len(chosen)
                chosen += [draw.choice(chosen) for _ in range(missing)]
            for index, (task, prompt) in enumerate(chosen):
                requests.append(Request("solve", task_type, index, prompt, task))
        return requests

    def estimate_requests(self, proposals: Sequence[Proposal]) -> list[Request]:
        """G for each proposal that can earn a learnability reward, all with one prompt.

        Proposal p has the indices p·G … p·G + G − 1.
        """
        count = self.config.samples_per_task
        requests = []
        for position, proposal in enumerate(proposals):
            if proposal.task is None or not proposal.well_formed or self._is_stale(proposal):
                continue
            task_type = proposal.request.task_type
            prompt = solve_prompt(self.config.prompt_style, task_type, proposal.task)
            requests += [
                Request("estimate", task_type, position * count + sample, prompt, proposal.task)
                for sample in range(count)
            ]
        return requests

    # --- checks ----------------------------------------------------------------------------

    def checks(self) -> Checks:
        """Checks of one batch of completions, shared among the peers."""

        def submit(request: Request, text: str) -> Pending[Any]:
            if request.role == "propose":
                return self.submit_proposal(request, text)
            return self.submit_answer(request, text)

        return Checks(submit, self.peers)

    def submit_proposal(self, request: Request, text: str) -> Pending[Proposal]:
        """Read and vet a proposal, and start the run that makes it a task."""
        style, rules = self.config.prompt_style, TASKS[request.task_type]
        verdict = Proposal(request, text, None, "OK", "", parse.well_formed(text))

        def rejected(why: Rejected) -> Proposal:
            return replace(verdict, status=why.status, reason=why.reason)

        def read(outcome: Outcome | None) -> Proposal:
            try:
                task = rules.make_task(draft, cast(Outcome, outcome))
                self.require_usable(request.task_type, task)
            except Rejected as why:
                return rejected(why)
            return replace(verdict, task=task)

        answer = parse.answer_text(text)
        if answer is None and request.purpose == "seed":
            answer = text  # an untrained model knows no tags yet; its programs may still be good
        try:
            if answer is None:
                raise Rejected("FORMAT", "no answer")
            draft = rules.read_proposal(
                style, answer, request.references, self.config.induction_inputs
            )
            draft = drafts.vet(draft, self.config.rules)
        except Rejected as why:
            failed = rejected(why)
            return Pending(None, lambda _: failed)
        return Pending(self.box.submit(drafts.job(draft)), read)

    def submit_answer(self, request: Request, text: str) -> Pending[Answer]:
        """Read a solver's answer, and start the run that decides it, where one is needed."""
        readable = parse.well_formed(text)

        def answer(verdict: Verdict) -> Answer:
            return Answer(
                request,
                text,
                verdict.accuracy,
                verdict.status,
                readable and verdict.status != "FORMAT",
            )

        written = parse.answer_text(text)
        if written is None or request.task is None:
            return Pending(None, lambda _: answer(Verdict(0.0, "FORMAT")))
        rules = TASKS[request.task_type]
        every_pair = request.purpose == "evaluate" or self.config.induction_pairs == "all"
        match rules.check_answer(self.config.prompt_style, request.task, written, every_pair):
            case Check(job, verdict):
                future = self.box.submit(replace(job, limits=self._patient))
                return Pending(future, lambda outcome: answer(verdict(cast(Outcome, outcome))))
            case Verdict() as known:
                return Pending(None, lambda _: answer(known))

    def filter(
        self, state: SelfPlayState, requests: Sequence[Request], texts: Sequence[str]
    ) -> list[Proposal]:
        """All proposals of a step: submit each, wait, compare with the buffers."""
        pending = [self.submit_proposal(r, t) for r, t in zip(requests, texts, strict=True)]
        return self.compare(state, [p.result() for p in pending])

    def grade(self, requests: Sequence[Request], texts: Sequence[str]) -> list[Answer]:
        """All answers of a step: submit each, wait."""
        pending = [self.submit_answer(r, t) for r, t in zip(requests, texts, strict=True)]
        return [p.result() for p in pending]

    def compare(self, state: SelfPlayState, proposals: Sequence[Proposal]) -> list[Proposal]:
        """With `novel` and `copies` filled in; the order of the proposals matters."""
        keys = {t: set(buffer.keys) for t, buffer in state.buffers.items()}
        copies = {t: Counter(buffer.copies) for t, buffer in state.buffers.items()}
        compared = []
        for proposal in proposals:
            if proposal.task is not None:
                new = Entry.of(proposal.task, SEED_STEP)
                known, held = keys[proposal.request.task_type], copies[proposal.request.task_type]
                proposal = replace(proposal, novel=new.key not in known, copies=held[new.program])
                known.add(new.key)
                held[new.program] += 1
            compared.append(proposal)
        return compared

    # --- rewards and memory ----------------------------------------------------------------

    def solve_rates(
        self, proposals: Sequence[Proposal], answers: Sequence[Answer]
    ) -> list[float | None]:
        """Per proposal the mean score of its estimates; None where there is no verdict at all.

        As in the original, an estimate counts as right even where its form is not.
        """
        scores: list[list[float | None]] = [[] for _ in proposals]
        for answer in answers:
            position = answer.request.index // self.config.samples_per_task
            scores[position].append(self._score(answer))
        return [solve_rate(samples) for samples in scores]

    def reward(
        self,
        proposals: Sequence[Proposal],
        rates: Sequence[float | None],
        answers: Sequence[Answer],
    ) -> list[Scored]:
        """What each completion earned: the proposals, then the answers (not the estimates)."""
        scored = []
        for proposal, rate in zip(proposals, rates, strict=True):
            if self._is_stale(proposal) or proposal.status == "TOO_LONG":
                rate = 0.0
            earned = proposer_reward(proposal.valid, proposal.well_formed, rate, self.rewards)
            if proposal.status in _NOT_ITS_FAULT and proposal.well_formed:
                earned = None
            scored.append(
                Scored(
                    proposal.request,
                    proposal.text,
                    earned,
                    None,
                    proposal.well_formed,
                    proposal.status,
                )
            )
        for answer in answers:
            right = self._score(answer)
            scored.append(
                Scored(
                    answer.request,
                    answer.text,
                    solver_reward(answer.well_formed, right),
                    None if right is None else right == 1.0,
                    answer.well_formed,
                    answer.status,
                )
            )
        return scored

    def remember(
        self, state: SelfPlayState, proposals: Sequence[Proposal], step: int
    ) -> SelfPlayState:
        """The state with the valid proposals in their buffers, whatever they earned.

        Deduction and abduction seeds go into both buffers, as both start from one pool.
        """
        buffers = dict(state.buffers)
        counters = Counter(state.counters)
        for task_type in TASK_TYPES:
            mine = [p for p in proposals if task_type in _buffers_of(p.request)]
            kept = [p.task for p in mine if p.task is not None and not self._is_stale(p)]
            again = self.config.known_tasks == "stored" and step != SEED_STEP
            buffers[task_type] = buffers[task_type].add(kept, step, again)
        for proposal in proposals:
            name = f"{proposal.request.purpose}/{proposal.request.task_type}"
            counters[f"{name}/proposed"] += 1
            counters[f"{name}/valid"] += proposal.valid
            counters[f"{name}/novel"] += proposal.valid and proposal.novel
        return SelfPlayState(buffers, dict(counters))

    # --- parts -----------------------------------------------------------------------------

    def _propose(
        self, state: SelfPlayState, task_types: Sequence[TaskType], purpose: Purpose, step: int
    ) -> list[Request]:
        requests = []
        options: list[tuple[Triplet, ...]]
        programs = self._programs(state) if "induction" in task_types else []
        for task_type in task_types:
            for index in range(self.config.batch_size):
                draw = rng(self.seed, step, f"{purpose}/{task_type}", index)
                if task_type == "induction":
                    # The shortest program is the last resort where none of the drawn ones fits.
                    drawn = draw.sample(programs, min(32, len(programs)))
                    options = [(t,) for t in (*drawn, min(programs, key=lambda t: len(t.program)))]
                else:
                    count = self.config.references if self.config.include_references else 0
                    shown = state.buffers[task_type].sample(count, draw)
                    options = _fewer_and_fewer(cast(list[Triplet], shown))
                references, prompt = self._first_that_fits(task_type, options)
                requests.append(Request(purpose, task_type, index, prompt, None, references))
        return requests

    def _first_that_fits(
        self, task_type: TaskType, options: Sequence[tuple[Triplet, ...]]
    ) -> tuple[tuple[Triplet, ...], str]:
        for references in options:
            prompt = TASKS[task_type].propose_prompt(
                self.config.prompt_style,
                references,
                self.config.induction_inputs,
                self.config.rules,
            )
            if self._fits(prompt):
                return references, prompt
        raise UserError(
            f"max_prompt_tokens {self.config.max_prompt_tokens} is too small to propose {task_type}"
        )

    def _programs(self, state: SelfPlayState) -> list[Triplet]:
        """One triplet for each distinct program that induction can be proposed on."""
        entries = state.buffers["deduction"].entries + state.buffers["abduction"].entries
        return [cast(Triplet, task) for task in {e.program: e.task for e in entries}.values()]

    def require_usable(self, task_type: TaskType, task: Task) -> None:
        """Raises Rejected where the task, proposed or from a seed file, cannot be in a prompt."""
        style = STYLES[self.config.prompt_style]
        if isinstance(task, Triplet):
            texts: tuple[str, ...] = (task.program, task.input, task.output)
        else:
            texts = (task.program, *task.inputs, *task.outputs, task.message)
        if any(tag in text for tag in style.TAGS for text in texts):
            raise Rejected("REJECTED", "the task contains a mark of the prompt")
        if not self._fits(solve_prompt(self.config.prompt_style, task_type, task)):
            raise Rejected("TOO_LONG", "the solver's prompt is too long")

    def _fits(self, prompt: str) -> bool:
        return self.count_tokens(prompt) <= self.config.max_prompt_tokens

    def _is_stale(self, proposal: Proposal) -> bool:
        """Whether a proposed task teaches nothing because the buffer has it, or its program.

        An induction proposer is handed its program, so that is not its fault.
        """
        if proposal.task is None or proposal.request.purpose != "propose":
            return False
        limit = self.config.duplicate_limit
        written = proposal.request.task_type != "induction"
        known = self.config.known_tasks == "unpaid" and not proposal.novel
        return known or (bool(limit) and written and proposal.copies >= limit)

    def _score(self, answer: Answer) -> float | None:
        return score(answer.accuracy, self.rewards)


def _buffers_of(request: Request) -> tuple[TaskType, ...]:
    if request.purpose == "seed" and request.task_type != "induction":
        return ("deduction", "abduction")
    return (request.task_type,)


def _fewer_and_fewer(references: Sequence[Triplet]) -> list[tuple[Triplet, ...]]:
    """All references, then without the longest, and so on to none."""
    options = [tuple(references)]
    while options[-1]:
        longest = max(options[-1], key=lambda t: len(t.program) + len(t.input) + len(t.output))
        options.append(tuple(t for t in options[-1] if t is not longest))
    return options
