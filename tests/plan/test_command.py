"""`azr plan` from end to end: programs of a small model, compiled ahead for a real topology."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from azr_jax import cli
from azr_jax.plan.command import configured, parse_gin
from tests.plan.small import flags, needs_compiler


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The plan of a small model for a v5e-8."""
    folder = tmp_path_factory.mktemp("plan")
    out = folder / "plan.json"
    assert cli.main(["plan", "--topology", "v5litepod-8", *flags(folder), "--json", str(out)]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@needs_compiler
def test_the_numbers_are_those_of_the_design(planned: dict[str, Any]) -> None:
    assert {k: v for k, v in planned.items() if k != "phases"} == {
        "topology": "v5e-8",
        "chips": 8,
        "hbm_gib": 15.75,
        "slots": 8,
        "cache_tokens": 1024,
        "fits": True,
    }
    assert list(planned["phases"]) == ["prefill", "decode", "logprob", "update", "reshard"]
    for phase in planned["phases"].values():
        assert set(phase) == {"peak_gib", "temporary_gib", "collectives"}
        assert 0 <= phase["temporary_gib"] <= phase["peak_gib"]


def test_an_unknown_topology_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--topology", "v9-16"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "unknown topology" in error


@needs_compiler
def test_a_mesh_that_does_not_fill_the_slice_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uneven = ["--gin_bindings", "MeshConfig.tensor = 3"]
    assert cli.main(["plan", "--topology", "v5e-16", *flags(tmp_path), *uneven]) == 2
    assert "tensor=3 does not fill 16 devices" in capsys.readouterr().err


@needs_compiler
@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        (["MeshConfig.tensor = 8"], "tensor=8 does not divide the model's 4 KV heads"),
        (["MeshConfig.tensor = 16"], "tensor=16 does not divide the model's 8 heads"),
        (["SamplerConfig.slots = 6"], "slots (6) must be a multiple of 4"),
    ],
)
def test_sizes_that_do_not_divide_are_refused_with_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bindings: list[str], message: str
) -> None:
    extra = [word for binding in bindings for word in ("--gin_bindings", binding)]
    assert cli.main(["plan", "--topology", "v5e-16", *flags(tmp_path), *extra]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("how", [["--topology", "v5e-16"], ["--topology", "v5e", "--search"]])
@pytest.mark.parametrize(
    "beyond",
    [
        ["--gin_file", "models/qwen2_5_math_7b.gin"],
        ["--gin_bindings", "ModelConfig.max_positions = 14239"],
    ],
)
def test_lengths_beyond_the_models_positions_are_refused(
    how: list[str], beyond: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", *how, "--gin_file", "runs/azr_7b.gin", *beyond]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "6144 tokens and 8096 new ones exceed the" in error


def test_the_update_is_compiled_for_a_row_of_every_sample() -> None:
    """As a run does, whose completions may all be of full length."""
    for reuse, samples in ((False, 2 * 3 * 64), (True, 2 * 3 * 64 + 3 * 64 * 8)):
        parse_gin(["runs/azr_7b.gin"], "v5e", [f"RunConfig.estimate_reuse = {reuse}"])
        sizes, _ = configured()
        assert sizes.compiled_rows(shards=4) == samples
        assert sizes.rows(shards=4) == (4, 64)  # what a step is expected to fill


def test_lengths_that_fill_the_models_positions_are_planned() -> None:
    parse_gin(["runs/azr_7b.gin"], "v5e", ["ModelConfig.max_positions = 14240"])
    assert configured()[0].model.max_positions == 14240


def test_a_slice_or_a_search_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan"]) == 2
    assert "needs --topology" in capsys.readouterr().err


def test_nothing_is_compiled_for_a_result_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none" / "plan.json"
    assert cli.main(["plan", "--topology", "v5e-16", "--json", str(out)]) == 2
    assert "cannot write" in capsys.readouterr().err
