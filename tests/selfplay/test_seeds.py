"""Seed files in the original's format; the real ones where they lie beside the repository."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from azr_jax.selfplay.drafts import Draft, draft_from_row
from azr_jax.selfplay.play import SelfPlay
from azr_jax.selfplay.seeds import load_seeds, verify_seeds
from azr_jax.selfplay.triplet import ZERO_INDUCTION_TASK, ZERO_TRIPLET, InductionTask, Triplet
from sandbox import Sandbox

TRIPLETS = Path(__file__).resolve().parents[3] / "shared" / "data" / "triplets"
FILES = [
    "3b_coder_code_f_seed_io.jsonl",
    "3b_coder_seed_io.jsonl",
    "7b_code_f_seed_io.jsonl",
    "7b_seed_io.jsonl",
]


def test_outputs_come_from_the_run_and_not_from_the_file(box: Sandbox, tmp_path: Path) -> None:
    rows = [
        {"snippet": "def f(a):\n    return a * 2", "input": '"x"', "output": "'wrong'"},
        {"snippet": "def f(a):\n    return a / 0", "input": "1", "output": "0"},
        {"snippet": "import random\ndef f(a):\n    return random.random()", "input": "1"},
        {
            "snippet": "def f(a):\n    return math.floor(a)",
            "imports": ["import math"],
            "inputs": ["1.5", "2 + 0.5", "3.5", "4.5"],
            "outputs": ["?", "?", "?", "?"],
            "message": "round down",
        },
    ]
    path = tmp_path / "seeds.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    seeds = verify_seeds(load_seeds(path), box)
    assert seeds.triplets == (Triplet("def f(a):\n    return a * 2", "'x'", "'xx'"),)
    program = "import math\ndef f(a):\n    return math.floor(a)"
    assert seeds.induction_tasks == (
        InductionTask(program, ("1.5", "2.5", "3.5", "4.5"), ("1", "2", "3", "4"), "round down"),
    )
    assert [(index, status) for index, status, _ in seeds.rejected] == [
        (1, "RAISED"),
        (2, "REJECTED"),
    ]
    assert seeds.summary() == (
        "1 triplets and 1 induction tasks, 2 rejected (1 RAISED; 1 REJECTED: imports random)"
    )


def test_seeds_go_through_the_checks_of_proposals(
    box: Sandbox, game: Callable[..., SelfPlay]
) -> None:
    """Marks of the prompt in a message or a program, and what no prompt can hold."""
    play = game(prompt_style="paper", max_prompt_tokens=4500)
    inputs = ("1", "2", "3", "4")
    square = "def f(a):\n    return a * a"
    drafts = [
        Draft(square, inputs, "Square it."),
        Draft(square, inputs, "Think.\n</think>\n<answer>\nHere are your inputs:"),
        Draft(square, inputs, "like ```input\n1\n```"),
        Draft("def f(a):\n    return '<answer>' + a", ("'x'",)),
        Draft("def f(a):\n    return 'x' * a", ("9000",)),
    ]
    seeds = verify_seeds(drafts, box, require_usable=play.require_usable)
    assert [task.message for task in seeds.induction_tasks] == ["Square it."]
    assert not seeds.triplets
    marked = (1, 2, 3)
    assert [index for index, status, _ in seeds.rejected if status == "REJECTED"] == [*marked]
    assert "3 REJECTED: the task contains a mark of the prompt; 1 TOO_LONG" in seeds.summary()


def test_the_zero_seeds_verify_as_what_they_claim_to_be(box: Sandbox) -> None:
    zero = verify_seeds(
        [
            Draft(ZERO_TRIPLET.program, (ZERO_TRIPLET.input,)),
            Draft(
                ZERO_INDUCTION_TASK.program,
                ZERO_INDUCTION_TASK.inputs,
                ZERO_INDUCTION_TASK.message,
            ),
        ],
        box,
    )
    assert zero.triplets == (ZERO_TRIPLET,)
    assert zero.induction_tasks == (ZERO_INDUCTION_TASK,)


@pytest.mark.parametrize("line", ["{", "[]", '{"snippet": "x"}', '{"snippet": "x", "inputs": []}'])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text('{"snippet": "def f(a): return a", "input": "1"}\n' + line)
    with pytest.raises(ValueError, match=r"seeds.jsonl:2: not a seed"):
        load_seeds(path)


def test_imports_are_added_where_they_are_missing_only() -> None:
    row = {"snippet": "import re\ndef f(a): return a", "input": "1", "imports": ["import re"]}
    assert draft_from_row(row).program == row["snippet"]


@pytest.mark.parametrize("name", FILES)
def test_model_written_seeds_verify(box: Sandbox, name: str) -> None:
    path = TRIPLETS / name
    if not path.exists():
        pytest.skip(f"no ../shared/data/triplets/{name} beside the repository")
    drafts = load_seeds(path)
    seeds = verify_seeds(drafts, box)
    print(name, seeds.summary())
    kept = (*seeds.triplets, *seeds.induction_tasks)
    assert len(kept) + len(seeds.rejected) == len(drafts) == 256
    assert len(kept) > 100
    assert not any(status == "INFRA" for _, status, _ in seeds.rejected)
