"""A game step by step, in the real sandbox, with the model's part written by hand."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from fractions import Fraction

import pytest

from azr_jax.selfplay.play import SelfPlay
from azr_jax.selfplay.prompts import compact
from azr_jax.selfplay.rewards import RewardConfig
from azr_jax.selfplay.seeds import self_seed
from azr_jax.selfplay.state import Answer, PlayConfig, Proposal, Request, SelfPlayState
from azr_jax.selfplay.tasks import solve_prompt
from azr_jax.selfplay.triplet import ZERO_TRIPLET, InductionTask, Triplet

Game = Callable[..., SelfPlay]

DOUBLE = "def f(a):\n    return a * 2"
INCREASE = "def f(a):\n    return a + 1"
ENDLESS = "def f(a):\n    while True: pass"


def pool(count: int) -> list[Triplet]:
    return [Triplet(f"def f(a):\n    return a + {n}", "1", str(1 + n)) for n in range(count)]


def proposers(play: SelfPlay, state: SelfPlayState, task_type: str) -> list[Request]:
    return [r for r in play.propose_requests(state, 0) if r.task_type == task_type]


# --- prompts -----------------------------------------------------------------------------------


def test_a_step_asks_b_times_per_role_and_type(game: Game) -> None:
    play = game(batch_size=3)
    state = play.start()
    requests = play.propose_requests(state, 0) + play.solve_requests(state, 0)
    groups = [r.group for r in requests]
    assert [groups.count(g) for g in range(6)] == [3] * 6
    assert len({(r.purpose, r.task_type, r.index) for r in requests}) == len(requests)


def test_prompts_are_a_function_of_seed_and_step(game: Game) -> None:
    state = game().start(pool(50))
    first = game(seed=1).propose_requests(state, 3)
    assert first == game(seed=1).propose_requests(state, 3)
    assert first != game(seed=1).propose_requests(state, 4)
    assert first != game(seed=2).propose_requests(state, 3)


def test_references_are_distinct_and_can_be_left_out(game: Game) -> None:
    state = game().start(pool(50))
    for request in proposers(game(references=6), state, "abduction"):
        assert len(set(request.references)) == 6
        assert all(r.program in request.prompt for r in request.references)
    bare = proposers(game(include_references=False), state, "deduction")[0]
    assert bare.prompt == compact.propose_deduction([])


def test_what_was_just_proposed_is_solved_next(game: Game) -> None:
    for lag, step in ((1, 5), (0, 4)):
        play = game(batch_size=2, solver_lag=lag, task_types=("deduction",))
        start = play.start(pool(50))
        new = [Triplet(DOUBLE, "1", "2"), Triplet(DOUBLE, "2", "4")]
        entered = play.start()
        entered = SelfPlayState(
            {**start.buffers, "deduction": start.buffers["deduction"].add(new, 4)}, {}
        )
        assert {r.task for r in play.solve_requests(entered, step)} == set(new)
        assert {r.task for r in play.solve_requests(entered, step + 1)} != set(new)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_solver_batch_is_full_whatever_the_lengths(game: Game, batch_size: int) -> None:
    long = [Triplet(f"def f(a):\n    return '{'x' * 500}{n}'", "1", "1") for n in range(20)]
    play = game(batch_size=batch_size, max_prompt_tokens=200, task_types=("deduction",))
    requests = play.solve_requests(play.start([*long, *pool(5)]), 0)
    assert len(requests) == batch_size
    assert all(len(r.prompt) <= 200 for r in requests)
    assert len({r.task for r in requests}) == min(batch_size, 5)


def test_nothing_that_fits_means_no_requests_and_no_crash(game: Game) -> None:
    play = game(max_prompt_tokens=60, task_types=("deduction",))
    assert play.solve_requests(play.start([Triplet("x" * 100, "1", "1")]), 0) == []


def test_references_give_way_when_the_prompt_is_too_long(game: Game) -> None:
    play = game(references=6, max_prompt_tokens=200, batch_size=8)
    state = play.start([*pool(8), Triplet("def f(a):\n    return '" + "x" * 500 + "'", "1", "1")])
    for request in play.propose_requests(state, 0):
        assert len(request.prompt) <= 200
        assert request.references
    with pytest.raises(ValueError, match="max_prompt_tokens"):
        game(max_prompt_tokens=5).propose_requests(state, 0)


# --- the worked example ------------------------------------------------------------------------


def test_a_batch_computed_by_hand(game: Game) -> None:
    """Five proposals, G = 4, three solver answers; every number below is worked out on paper."""
    play = game(RewardConfig(zero_extreme=-0.5), batch_size=5, samples_per_task=4)
    state = play.start()
    requests = proposers(play, state, "deduction")
    texts = [
        compact.proposal(DOUBLE, "3"),  # solved 1 of 4
        compact.proposal(INCREASE, "3"),  # solved 4 of 4
        compact.proposal(INCREASE, "[]"),  # raises
        compact.proposal(DOUBLE, "'ab'").removeprefix("</think>"),  # valid, malformed
        compact.proposal(DOUBLE, "(1,)"),  # never solved
    ]
    proposals = play.filter(state, requests, texts)
    assert [p.status for p in proposals] == ["OK", "OK", "RAISED", "OK", "OK"]
    assert [p.task for p in proposals if p.task] == [
        Triplet(DOUBLE, "3", "6"),
        Triplet(INCREASE, "3", "4"),
        Triplet(DOUBLE, "'ab'", "'abab'"),
        Triplet(DOUBLE, "(1,)", "(1, 1)"),
    ]

    estimates = play.estimate_requests(proposals)
    assert [r.index for r in estimates] == [*range(4), *range(4, 8), *range(16, 20)]
    written = ["6", "7", "a lot", "-6", "4", "4.0", "4", "4", "(1,1,1)", "[1, 1]", "", "2"]
    rates = play.solve_rates(proposals, play.grade(estimates, list(map(compact.answer, written))))
    assert rates == [0.25, 1.0, None, None, 0.0]

    solver = [
        Request("solve", "deduction", 0, "", Triplet(DOUBLE, "3", "6")),
        Request("solve", "abduction", 0, "", Triplet(DOUBLE, "3", "6")),
        Request("solve", "abduction", 1, "", Triplet(DOUBLE, "3", "6")),
    ]
    answers = play.grade(solver, [compact.answer("6"), compact.answer("4"), "</think><answer>3"])
    scored = play.reward(proposals, rates, answers)
    assert [s.reward for s in scored] == [0.75, -0.5, -1.0, -1.0, -0.5, 1.0, -0.5, -1.0]
    assert [s.correct for s in scored] == [None] * 5 + [True, False, False]

    # The same once more, by a calculation that shares nothing with the code.
    right = {0: Fraction(1, 4), 1: Fraction(4, 4), 4: Fraction(0, 4)}
    formed_and_valid = [True, True, False, False, True]
    for k, good in enumerate(formed_and_valid):
        wanted = Fraction(-1)
        if good:
            wanted = 1 - right[k] if 0 < right[k] < 1 else Fraction(-1, 2)
        assert scored[k].reward == float(wanted)


def test_induction_graded_and_binary(game: Game) -> None:
    task = InductionTask(INCREASE, ("1", "2", "3", "4"), ("2", "3", "4", "5"), "m")
    request = Request("solve", "induction", 0, "", task)
    partly = compact.answer("def f(a): return 4")  # right on 3, wrong on 4
    fully = compact.answer("def f(a): return -~a")
    hidden = game(RewardConfig(induction="graded"), induction_pairs="hidden")
    binary = game(RewardConfig(induction="binary"), induction_pairs="hidden")
    every = game(RewardConfig(induction="graded"))
    for play, wanted in ((hidden, [0.5, 1.0]), (binary, [-0.5, 1.0]), (every, [-0.5, 1.0])):
        scored = play.reward([], [], play.grade([request, request], [partly, fully]))
        assert [s.reward for s in scored] == wanted
        assert [s.correct for s in scored] == [False, True]


def test_an_induction_answer_that_contradicts_a_shown_pair_is_wrong(game: Game) -> None:
    """In training by a switch, in evaluations always."""
    task = InductionTask(
        "def f(a): return max(a, 3)", ("9", "8", "1", "4"), ("9", "8", "3", "4"), "m"
    )
    three = compact.answer("def f(a): return {1: 3, 4: 4}.get(a, 0)")
    train, evaluate = (
        Request(purpose, "induction", 0, "", task) for purpose in ("solve", "evaluate")
    )
    for play, right in ((game(), 0.0), (game(induction_pairs="hidden"), 1.0)):
        answers = play.grade([train, evaluate], [three, three])
        assert [a.accuracy for a in answers] == [right, 0.0]
    good = compact.answer("def f(a): return a if a > 3 else 3")
    assert [a.accuracy for a in game().grade([train, evaluate], [good, good])] == [1.0, 1.0]


# --- the filter --------------------------------------------------------------------------------


def test_an_induction_proposal_becomes_a_task(game: Game) -> None:
    play = game(induction_inputs=4)
    state = play.start([Triplet(INCREASE, "0", "1")])
    request = proposers(play, state, "induction")[0]
    text = compact.induction_proposal(["9", "1", "0x2", "1 + 2", "4"], "one more")
    (proposal,) = play.filter(state, [request], [text])
    assert proposal.task == InductionTask(
        INCREASE, ("1", "2", "3", "4"), ("2", "3", "4", "5"), "one more"
    )


def test_verification_can_hide_behind_generation(game: Game) -> None:
    play = game()
    state = play.start()
    requests = proposers(play, state, "deduction")
    texts = [compact.proposal(DOUBLE, "3"), "no tags at all"]
    pending = [play.submit_proposal(r, t) for r, t in zip(requests, texts, strict=True)]
    later = play.compare(state, [p.result() for p in pending])
    assert later == play.filter(state, requests, texts)


def test_novelty_counts_buffer_and_batch_in_order(game: Game) -> None:
    play = game(batch_size=4, duplicate_limit=2)
    state = play.start([Triplet(DOUBLE, "3", "6")])
    requests = proposers(play, state, "deduction")
    texts = [compact.proposal(DOUBLE.replace("a", "b"), i) for i in ("3", "4", "4", "5")]
    proposals = play.filter(state, requests, texts)
    assert [p.novel for p in proposals] == [False, True, False, True]
    assert [p.copies for p in proposals] == [1, 2, 3, 4]
    # A known task and a third copy of a program are not estimated, rewarded or kept.
    assert play.estimate_requests(proposals) == []
    rates: list[float | None] = [None] * 4
    assert [s.reward for s in play.reward(proposals, rates, [])] == [0.0] * 4
    assert len(play.remember(state, proposals, 0).buffers["deduction"]) == 1
    play = game(batch_size=4, duplicate_limit=3)
    assert {r.index // 4 for r in play.estimate_requests(proposals)} == {1}


def copies_of_one_task(play: SelfPlay, steps: int) -> tuple[list[float], list[int]]:
    """What 8 proposers who always write one known task earn, and how often a solver gets it.

    One sample of eight solves it until a solver has trained on it, then all do.
    """
    others = [Triplet(f"def f(a):\n    return a + {n}", "1", str(1 + n)) for n in range(50)]
    state = play.start([*others, Triplet(DOUBLE, "3", "6")])
    trained, earned, met = 0, [], []
    for step in range(steps):
        solves = [r.task for r in play.solve_requests(state, step) if r.task_type == "deduction"]
        met.append(solves.count(Triplet(DOUBLE, "3", "6")))
        requests = [r for r in play.propose_requests(state, step) if r.task_type == "deduction"]
        proposals = play.filter(state, requests, [compact.proposal(DOUBLE, "3")] * len(requests))
        rates = [0.125 if trained < 8 else 1.0] * len(proposals)
        rewards = [s.reward or 0.0 for s in play.reward(proposals, rates, [])]
        earned.append(sum(rewards) / len(rewards))
        state, trained = play.remember(state, proposals, step), trained + met[-1]
    return earned, met


def test_to_copy_a_known_task_never_pays_for_long(game: Game) -> None:
    earned, _ = copies_of_one_task(game(RewardConfig(zero_extreme=-0.5), batch_size=8), 5)
    assert earned == [-0.5] * 5
    # The original pays, and damps itself: the solver is trained on nothing but the copies.
    play = game(RewardConfig(zero_extreme=-0.5), batch_size=8, known_tasks="stored")
    earned, met = copies_of_one_task(play, 5)
    assert earned[:2] == [0.875, 0.875] and earned[2:] == [-0.5] * 3
    assert met[1:] == [8] * 4


def test_the_first_of_many_equal_proposals_is_paid(game: Game) -> None:
    play = game(batch_size=3)
    state = play.start()
    texts = [compact.proposal(DOUBLE, "3")] * 3
    proposals = play.filter(state, proposers(play, state, "deduction"), texts)
    assert [s.reward for s in play.reward(proposals, [0.25] * 3, [])] == [0.75, 0.0, 0.0]
    assert len(play.remember(state, proposals, 0).buffers["deduction"]) == 2


def test_a_proposal_whose_task_makes_too_long_a_prompt(game: Game) -> None:
    play = game(max_prompt_tokens=120)
    state = play.start()
    text = compact.proposal("def f(a):\n    return 'x' * a", "500")
    request = proposers(play, state, "abduction")[0]
    (proposal,) = proposals = play.filter(state, [request], [text])
    assert (proposal.status, proposal.valid, proposal.task) == ("TOO_LONG", True, None)
    # Valid, but nobody can try it: as if it were never solved, not as if it could not be read.
    assert play.estimate_requests(proposals) == []
    assert [s.reward for s in play.reward(proposals, [None], [])] == [0.0]
    assert len(play.remember(state, proposals, 0).buffers["abduction"]) == 1
    paper = game(RewardConfig(zero_extreme=-0.5), max_prompt_tokens=120)
    assert [s.reward for s in paper.reward(proposals, [None], [])] == [-0.5]


def test_a_task_cannot_smuggle_marks_into_a_prompt(game: Game) -> None:
    play = game()
    state = play.start()
    request = proposers(play, state, "deduction")[0]
    for program, input in (
        (f"def f(a):\n    return a  # {compact.THINK}", "1"),
        ("def f(a):\n    return '<' + a + '>'", "'output'"),
    ):
        (proposal,) = play.filter(state, [request], [compact.proposal(program, input)])
        assert (proposal.status, proposal.valid) == ("REJECTED", False)


def test_estimates_ask_what_evaluation_asks(game: Game) -> None:
    play = game()
    state = play.start()
    requests = play.propose_requests(state, 0)
    texts = [
        compact.induction_proposal(list("1234"), "m")
        if r.task_type == "induction"
        else compact.proposal(DOUBLE, str(r.index))
        for r in requests
    ]
    for estimate in play.estimate_requests(play.filter(state, requests, texts)):
        assert estimate.task is not None
        assert estimate.prompt == solve_prompt("compact", estimate.task_type, estimate.task)


# --- a sandbox that fails ----------------------------------------------------------------------


def test_masked_samples_leave_the_rate_and_an_all_masked_task_is_masked(game: Game) -> None:
    play = game(samples_per_task=2)
    task = Triplet(DOUBLE, "3", "6")
    proposer = Request("propose", "abduction", 0, "")
    proposals = [
        Proposal(proposer, "", task, "OK", "", True),
        Proposal(proposer, "", task, "OK", "", True),
        Proposal(proposer, "", None, "INFRA", "lost", True),
        Proposal(proposer, "", None, "INFRA", "lost", False),
        Proposal(proposer, "", None, "HELD_OUT", "", True),
    ]
    answers = [
        Answer(r, "", accuracy, "OK", True)
        for r, accuracy in zip(
            play.estimate_requests(proposals), [None, 0.0, None, None], strict=True
        )
    ]
    rates = play.solve_rates(proposals, answers)
    assert rates[:2] == [0.0, None]
    masked = Answer(Request("solve", "abduction", 0, "", task), "", None, "INFRA", True)
    rewards = [s.reward for s in play.reward(proposals, rates, [masked])]
    assert rewards == [0.0, None, None, -1.0, None, None]


# --- memory ------------------------------------------------------------------------------------


def test_remember_is_pure_and_keeps_what_is_valid(game: Game) -> None:
    play = game()
    state = play.start()
    before = json.dumps(state.to_json())
    requests = proposers(play, state, "abduction")
    texts = [compact.proposal(DOUBLE, "3"), compact.proposal(ENDLESS, "3")]
    after = play.remember(state, play.filter(state, requests, texts), 7)
    assert json.dumps(state.to_json()) == before
    assert [(e.task, e.step) for e in after.buffers["abduction"].entries] == [
        (ZERO_TRIPLET, -1),
        (Triplet(DOUBLE, "3", "6"), 7),
    ]
    assert after.buffers["deduction"] == state.buffers["deduction"]
    name = "propose/abduction"
    assert [after.counters[f"{name}/{k}"] for k in ("proposed", "valid", "novel")] == [2, 1, 1]


def test_the_state_survives_json_and_plays_on_alike(game: Game) -> None:
    play = game(batch_size=5)
    state = play.start(pool(30))
    requests = proposers(play, state, "deduction")
    texts = [compact.proposal(DOUBLE, str(r.index)) for r in requests]
    state = play.remember(state, play.filter(state, requests, texts), 0)
    back = SelfPlayState.from_json(json.loads(json.dumps(state.to_json())))
    assert back == state
    assert play.propose_requests(back, 1) == play.propose_requests(state, 1)
    assert play.solve_requests(back, 1) == play.solve_requests(state, 1)


def test_what_crosses_hosts_can_be_pickled(game: Game) -> None:
    play = game()
    state = play.start()
    requests = play.propose_requests(state, 0)
    proposals = play.filter(state, requests, ["</think><answer>?</answer>"] * len(requests))
    assert pickle.loads(pickle.dumps(proposals)) == proposals


# --- self-seeding ------------------------------------------------------------------------------


def test_the_pool_grows_from_the_zero_triplet(game: Game) -> None:
    play = game(seed_target=6)
    references_seen: list[int] = []

    def propose(requests: Sequence[Request]) -> list[Proposal]:
        references_seen.append(max(len(r.references) for r in requests))
        serial = len(references_seen) * 10
        texts = [
            compact.induction_proposal([str(serial + i) for i in range(4)], f"riddle {r.index}")
            if r.task_type == "induction"
            else f"def f(a):\n    return a, {serial + r.index}<input>1"  # no tags: still a seed
            for r in requests
        ]
        return play.filter(play.start(), requests, texts)

    state, warnings = self_seed(play, play.start(), propose)
    assert warnings == []
    assert all(len(buffer) >= 6 for buffer in state.buffers.values())
    assert state.buffers["deduction"] == state.buffers["abduction"]
    assert references_seen[:2] == [1, 2]  # what the first round found, the second one shows


def test_a_model_that_proposes_nothing_valid_ends_in_a_warning(game: Game) -> None:
    play = game()
    rounds: list[int] = []

    def propose(requests: Sequence[Request]) -> list[Proposal]:
        rounds.append(len(requests))
        return play.filter(play.start(), requests, ["?"] * len(requests))

    state, warnings = self_seed(play, play.start(), propose, patience=3)
    assert len(rounds) == 6  # two stages
    assert [len(b) for b in state.buffers.values()] == [1, 1, 1]
    assert len(warnings) == 2 and "stopped at 1 of 4 tasks after 3 rounds" in warnings[0]


# --- configuration -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"task_types": ()},
        {"task_types": ("error",)},
        {"task_types": ("deduction", "deduction")},
        {"prompt_style": "chat"},
        {"solver_lag": 2},
        {"samples_per_task": 1},
        {"induction_inputs": 3},
        {"known_tasks": "kept"},
        {"eviction": "latest"},
        {"induction_pairs": "shown"},
        {"batch_size": 0},
    ],
)
def test_a_configuration_nobody_meant_is_refused(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name.replace("_types", ".type")):
        PlayConfig(**wrong)  # type: ignore[arg-type]
