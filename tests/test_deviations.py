"""The paper's settings: the table of deviations, and that prompts ask for what the filter wants."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from azr_jax import config
from azr_jax.selfplay.drafts import Draft, Rejected, vet
from azr_jax.selfplay.play import PlayConfig
from azr_jax.selfplay.prompts import paper

ROOT = Path(__file__).resolve().parents[1]
TABLE = (ROOT / "docs" / "deviations.md").read_text()
ROWS = [row.split(" | ") for row in re.findall(r"^\| (.*) \|$", TABLE, re.MULTILINE)]
BINDINGS = re.findall(r"`([\w.]+ = [^`]+)` \|$", TABLE, re.MULTILINE)
REQUIRED = ["INIT_CHECKPOINT = 'tiny'", "RUN_DIR = 'runs/x'"]
HELPERS = "def g(a):\n    return a\n\ndef f(a):\n    return g(a)"


def built(name: str, *bindings: str, model: str = "qwen2_5_7b", run: str = "paper.gin") -> Any:
    config.parse([run, f"models/{model}.gin"], [*REQUIRED, *bindings])
    return config.build(name)


@pytest.mark.parametrize("binding", BINDINGS)
def test_what_the_table_says_restores_the_original_changes_a_setting(binding: str) -> None:
    left, _, _ = binding.partition(" = ")
    name = left.partition(".")[0] if "." in left else "RunConfig"
    runs = ("paper.gin", "runs/tiny.gin")
    assert any(built(name, binding, run=run) != built(name, run=run) for run in runs)


def test_the_table_is_whole() -> None:
    assert len(BINDINGS) >= 10
    for row in ROWS:
        assert len(row) == 5, row
        assert row[-1] in ("none", "restored by") or row[-1].startswith("`"), row


@pytest.mark.parametrize(
    ("model", "allowed"),
    [("qwen2_5_7b", False), ("qwen2_5_coder_3b", False)]
    + [(name, True) for name in ("qwen3_4b", "qwen3_8b", "qwen3_14b")]
    + [(name, True) for name in ("llama3_1_8b", "llama3_2_3b")],
)
def test_helper_functions_are_where_the_original_has_them(model: str, allowed: bool) -> None:
    play = built("PlayConfig", model=model)
    assert isinstance(play, PlayConfig)
    asked = paper.propose_deduction([], play.rules) + paper.propose_abduction([], play.rules)
    assert ("helper functions are allowed" in asked) is allowed
    assert ("the only function" in asked) is not allowed
    try:
        vet(Draft(HELPERS, ("1",)), play.rules)
    except Rejected as why:
        assert not allowed and "more than one function" in why.reason
    else:
        assert allowed


def test_the_prompt_names_the_modules_that_the_run_bans() -> None:
    rules = PlayConfig(policy=PlayConfig().policy.parity()).rules
    asked = paper.propose_deduction([], rules)
    assert "pebble" in asked and "importlib" not in asked
    assert "importlib" in paper.propose_deduction([])


def test_the_paper_counts_hidden_pairs_and_keeps_checkpoints() -> None:
    play, run = built("PlayConfig"), built("RunConfig")
    assert (play.induction_pairs, play.known_tasks) == ("hidden", "unpaid")
    assert run.keep_every == 50
