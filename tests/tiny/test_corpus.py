"""The corpus says only what is true, in the prompts of self-play, and nothing that is held out."""

from __future__ import annotations

import json
import random

import pytest

from azr_jax.selfplay.prompts import compact
from azr_jax.selfplay.split import is_held_out, split_of
from azr_jax.selfplay.tasks import solve_prompt
from azr_jax.selfplay.triplet import InductionTask, Triplet, task_from_json
from azr_jax.tiny import corpus, heldout


def texts(document: list[corpus.Example]) -> list[str]:
    return [e.prompt + e.completion for e in document]


def program_in(text: str) -> str:
    return text[text.index("def f(") :].split("<")[0]


def run(program: str, arguments: str) -> object:
    namespace: dict[str, object] = {}
    exec(program, namespace)
    return namespace["f"](eval(arguments))  # type: ignore[operator]


@pytest.mark.parametrize("think", [0.0, 1.0])
def test_deduction_examples_are_self_play_prompts_with_right_answers(think: float) -> None:
    rng = random.Random(3)
    for _ in range(40):
        for text in texts(corpus.deduction(rng, think)):
            prompt, completion = text.split(compact.THINK)
            program = program_in(prompt)
            value = prompt.split(compact.INPUT)[1]
            output = completion.split(compact.ANSWER)[1].removesuffix(compact.END_ANSWER)
            task = Triplet(program, value, output)
            assert solve_prompt("compact", "deduction", task) == prompt + compact.THINK
            assert run(program, value) == eval(output)
            assert bool(completion.split(compact.END_THINK)[0]) == bool(think)
            assert not is_held_out(program)


def test_abduction_answers_give_the_output() -> None:
    rng = random.Random(4)
    for _ in range(60):
        for text in texts(corpus.abduction(rng, 0.5)):
            prompt, completion = text.split(compact.THINK)
            program, output = program_in(prompt), prompt.split(compact.OUTPUT)[1]
            found = completion.split(compact.ANSWER)[1].removesuffix(compact.END_ANSWER)
            assert run(program, found) == eval(output)
            task = Triplet(program, found, output)
            assert solve_prompt("compact", "abduction", task) == prompt + compact.THINK


def test_induction_shows_half_of_the_pairs() -> None:
    rng = random.Random(5)
    for _ in range(40):
        [example] = corpus.induction(rng)
        program = program_in(example.completion)
        shown = [
            pair.split(compact.OUTPUT)
            for pair in example.prompt.removesuffix(compact.THINK).split(compact.INPUT)[1:]
        ]
        assert len(shown) == corpus.INDUCTION_INPUTS // 2
        assert all(run(program, x) == eval(y) for x, y in shown)


def test_proposals_are_never_easier_than_their_references() -> None:
    rng = random.Random(6)
    for _ in range(80):
        for example in corpus.propose(rng):
            shown = [r for r in example.prompt.split(compact.PROGRAM)[1:] if "def f(x)" in r]
            target = program_in(example.completion)
            hardest = max((program_in(r).count("\n") for r in shown), default=0)
            assert target.count("\n") >= hardest
            run(target, example.completion.split(compact.INPUT)[1].split("<")[0])


def test_documents_mix_all_kinds() -> None:
    stream = corpus.documents(random.Random(0), corpus.Mix((0.3, 0.2, 0.2, 0.2, 0.1), 0.5))
    starts = {next(stream)[0].prompt.split("def")[0].split("int")[0] for _ in range(200)}
    assert {"<deduction>", "<abduction>"} <= starts
    assert any(s.startswith("<propose><induction>") for s in starts)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_the_shipped_held_out_sets_are_what_the_code_builds(split: heldout.Split) -> None:
    path = heldout.FOLDER / f"{split}.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows == [json.loads(json.dumps(row)) for row in heldout.rows(split)]
    cells = {(r["task_type"], r["category"]) for r in rows}
    assert len(cells) == 9 and len(rows) == 9 * heldout.TASKS_PER_CELL[split]
    for row in rows:
        task = task_from_json(row["task"])
        assert split_of(task.program) == split
        pairs = task.pairs if isinstance(task, InductionTask) else [(task.input, task.output)]
        assert all(run(task.program, x) == eval(y) for x, y in pairs)
