"""Worked examples: numbers that a reader can follow, and prompts byte by byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from azr_jax.evals.harness import EvalTask, evaluate
from azr_jax.learn.advantages import trr_plus_plus
from azr_jax.model.loss import GroupCoefficients, policy_loss
from azr_jax.model.sampler import Completion, Prompt
from azr_jax.selfplay.play import PlayConfig, Proposal, SelfPlay
from azr_jax.selfplay.prompts import STYLES, StyleName
from azr_jax.selfplay.rewards import (
    RewardConfig,
    proposer_reward,
    score,
    solve_rate,
    solver_reward,
)
from azr_jax.selfplay.triplet import TASK_TYPES, InductionTask, Task, TaskType, Triplet, group_of
from sandbox import Sandbox

TRIPLET = Triplet("def f(a, b):\n    return a + b * 2", "3, 4", "11")
INDUCTION = InductionTask(
    "def f(a):\n    return a[::-1]",
    ("'ab'", "'cd'", "'xyz'", "''"),
    ("'ba'", "'dc'", "'zyx'", "''"),
    "turn",
)
TASKS: dict[TaskType, Task] = {"deduction": TRIPLET, "abduction": TRIPLET, "induction": INDUCTION}


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(level=1) as box:
        yield box


# --- prompts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_self_play_and_evaluation_ask_in_the_same_bytes(style: StyleName, box: Sandbox) -> None:
    """For each type: what solve and estimate ask, and what the harness asks."""
    config = PlayConfig(
        batch_size=1, samples_per_task=2, prompt_style=style, max_prompt_tokens=9999
    )
    play = SelfPlay(config, RewardConfig(), box, len, seed=0)
    asked: list[Prompt] = []

    def listen(prompts: Sequence[Prompt], temperature: float) -> Iterator[Completion]:
        asked.extend(prompts)
        return iter(())

    rows = [EvalTask(name, name, "", TASKS[name]) for name in TASK_TYPES]
    evaluate(rows, play, listen, lambda text: list(text.encode()), samples=1, temperature=1.0)
    evaluated = {
        row.task_type: bytes(prompt.tokens) for row, prompt in zip(rows, asked, strict=True)
    }

    state = play.start([TRIPLET], [INDUCTION])
    solved = {r.task_type: r.prompt.encode() for r in play.solve_requests(state, 0)}
    assert solved == evaluated
    proposals = [
        Proposal(request, "", TASKS[request.task_type], "OK", "", well_formed=True)
        for request in play.propose_requests(state, 0)
    ]
    estimated = {(r.task_type, r.prompt.encode()) for r in play.estimate_requests(proposals)}
    assert estimated == set(evaluated.items())


# --- rewards, advantages, loss -----------------------------------------------------------------

# Four deduction proposals: what each solver sample of their tasks was worth (None: the sandbox
# failed), or "invalid".
ESTIMATES: list[list[float | None] | str] = [
    [1.0, 0.0, 0.0, 0.0],
    [1.0, 1.0, None, 0.0],
    [1.0, 1.0, 1.0, 1.0],
    "invalid",
]
# Five answers to deduction tasks, as (well formed, accuracy), and two to induction tasks, of which
# one satisfies two of four hidden pairs.
ANSWERS = [(True, 1.0), (True, 0.0), (False, 1.0), (True, 1.0), (True, None)]
INDUCED = [(True, 1.0), (True, 0.5)]


def rewards(config: RewardConfig) -> list[float | None]:
    """Through our own functions."""
    found: list[float | None] = []
    for samples in ESTIMATES:
        valid = samples != "invalid"
        rate = solve_rate(samples) if isinstance(samples, list) else None
        found.append(proposer_reward(valid, True, rate, config))
    for well_formed, accuracy in ANSWERS + INDUCED:
        found.append(solver_reward(well_formed, score(accuracy, config)))
    return found


def test_rewards_by_hand() -> None:
    """Solve rates 1/4, 2/3 of three verdicts, 1: what is never or always solved teaches nothing."""
    assert rewards(RewardConfig()) == pytest.approx(
        [3 / 4, 1 / 3, 0.0, -1.0, 1.0, -0.5, -1.0, 1.0, None, 1.0, -0.5], nan_ok=True
    )
    other = rewards(RewardConfig(zero_extreme=-0.5, induction="graded"))
    assert other == pytest.approx([3 / 4, 1 / 3, -0.5, -1.0, 1.0, -0.5, -1.0, 1.0, None, 1.0, 0.5])


@pytest.mark.parametrize("whiten", ["token", "sequence"])
def test_from_rewards_to_the_loss_of_a_batch(whiten: str) -> None:
    """Rewards -> TRR++ -> clipped loss: our functions against sums written out, to 1e-6."""
    earned = rewards(RewardConfig())
    groups = [group_of("propose", "deduction")] * 4
    groups += [group_of("solve", "deduction")] * 5 + [group_of("solve", "induction")] * 2
    lengths = [3, 1, 2, 4, 2, 3, 1, 1, 2, 5, 2]
    advantages, counted = trr_plus_plus(earned, groups, lengths, whiten=whiten)  # type: ignore[arg-type]

    # Independently: the completions of each group one by one.
    expected = [0.0] * len(earned)
    for members in ([0, 1, 2, 3], [4, 5, 6, 7], [9, 10]):
        copies = [earned[i] for i in members for _ in range(lengths[i] if whiten == "token" else 1)]
        mean = sum(copies) / len(copies)
        variance = sum((r - mean) ** 2 for r in copies) / (len(copies) - 1)
        for i in members:
            expected[i] = (earned[i] - mean) / (variance + 1e-8) ** 0.5
    np.testing.assert_allclose(advantages, expected, atol=1e-6)
    assert counted.tolist() == [i != 8 for i in range(11)]

    # The batch, a token an entry; the ratios reach beyond both clips.
    rng = np.random.default_rng(0)
    tokens = sum(lengths)
    old, gap = rng.uniform(-3, -0.1, tokens), rng.uniform(-0.6, 0.6, tokens)
    entropy = rng.uniform(0, 2, tokens)
    policy, low, high, bonus = (np.full(6, x) for x in (1.0, 0.2, 0.28, 0.01))
    policy[0] = 0.3
    coefficients = GroupCoefficients(
        policy=policy,
        clip_low=low,
        clip_high=high,
        dual_clip=np.zeros(6),
        entropy=bonus,
    )
    total, tally = policy_loss(
        *(np.asarray(x, np.float32) for x in (old + gap, old, np.repeat(advantages, lengths))),
        np.repeat(counted, lengths).astype(np.float32),
        np.repeat(groups, lengths),
        entropy.astype(np.float32),
        coefficients,
    )

    by_group = [0.0] * 6
    summed, count, at = 0.0, 0, 0
    for i, length in enumerate(lengths):
        for t in range(at, at + length):
            if i == 8:
                continue
            ratio = float(np.exp(gap[t]))
            clipped = min(max(ratio, 0.8), 1.28)
            surrogate = -min(ratio * expected[i], clipped * expected[i])
            by_group[groups[i]] += surrogate
            summed += (0.3 if groups[i] == 0 else 1.0) * surrogate - 0.01 * entropy[t]
            count += 1
        at += length
    assert np.asarray(tally.sums["tokens"]).sum() == count == tokens - 2
    assert float(total) / count == pytest.approx(summed / count, abs=1e-6)
    np.testing.assert_allclose(
        np.asarray(tally.sums["policy_loss"]) / count, np.array(by_group) / count, atol=1e-6
    )
