"""`azr plan` from end to end: programs of a small model, compiled ahead for real topologies.

Memory and collectives are pinned: a lost constraint on activations still computes the right thing.
Without any, decode has 10 all-reduces for 4 here; in the update, attention's own cut over the mesh
holds the batch in place, and counts stay.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from azr_jax import cli

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: extra [plan]"
)

SMALL = """\
ModelConfig.vocab_size = 8192
ModelConfig.d_model = 512
ModelConfig.layers = 2
ModelConfig.heads = 8
ModelConfig.kv_heads = 4
ModelConfig.head_dim = 32
ModelConfig.d_ff = 1024
ModelConfig.dtype = 'bfloat16'
ModelConfig.tied_embeddings = False
MeshConfig.data = 1
MeshConfig.fsdp = -1
MeshConfig.tensor = 4
RunConfig.row_tokens = (2048,)
RunConfig.batch_rows = 16
SamplerConfig.slice_tokens = 16
SamplerConfig.max_prompt_tokens = 128
SamplerConfig.max_new_tokens = 128
INIT_CHECKPOINT = %gin.REQUIRED
RunConfig.init_checkpoint = %INIT_CHECKPOINT
"""


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The plan of a small model for a v5e-16."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "small.gin").write_text(SMALL)
    out = folder / "plan.json"
    flags = ["--gin_file", str(folder / "small.gin"), "--json", str(out)]
    assert cli.main(["plan", "--topology", "v5litepod-16", *flags]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@needs_compiler
def test_the_numbers_are_those_of_the_design(planned: dict[str, Any]) -> None:
    assert {k: v for k, v in planned.items() if k != "phases"} == {
        "topology": "v5e-16",
        "chips": 16,
        "hbm_gib": 15.75,
        "slots": 32,  # of gin/hardware/v5e.gin
        "cache_tokens": 256,
        "fits": True,
    }
    assert list(planned["phases"]) == ["prefill", "decode", "logprob", "update", "reshard"]
    for phase in planned["phases"].values():
        assert set(phase) == {"peak_gib", "temporary_gib", "collectives"}
        assert 0 <= phase["temporary_gib"] <= phase["peak_gib"]


PINNED: dict[str, tuple[float, dict[str, int]]] = {
    "prefill": (0.62, {"all-gather": 2, "all-reduce": 3}),
    "decode": (0.93, {"all-gather": 6, "all-reduce": 4}),
    "logprob": (
        2.85,
        {"all-gather": 3, "all-reduce": 6, "all-to-all": 1, "collective-permute": 22},
    ),
    "update": (
        19.63,
        {"all-gather": 21, "all-reduce": 18, "all-to-all": 2, "collective-permute": 74},
    ),
    "reshard": (0.0, {"all-gather": 9}),
}
"""Phase -> temporary MiB on a chip, and collectives, by libtpu 0.0.42."""


@needs_compiler
@pytest.mark.parametrize("name", PINNED)
def test_memory_and_collectives_stay(planned: dict[str, Any], name: str) -> None:
    phase, (temporary, collectives) = planned["phases"][name], PINNED[name]
    assert phase["temporary_gib"] * 1024 == pytest.approx(temporary, rel=0.1, abs=0.01)
    assert phase["collectives"] == collectives


def test_an_unknown_topology_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--topology", "v9-16"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "unknown topology" in error


@needs_compiler
def test_a_mesh_that_does_not_fill_the_slice_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.gin").write_text(SMALL)
    flags = ["--gin_file", str(tmp_path / "small.gin"), "--gin_bindings", "MeshConfig.tensor = 3"]
    assert cli.main(["plan", "--topology", "v5e-16", *flags]) == 2
    assert "tensor=3 does not fill 16 devices" in capsys.readouterr().err


def test_nothing_is_compiled_for_a_result_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none" / "plan.json"
    assert cli.main(["plan", "--topology", "v5e-16", "--json", str(out)]) == 2
    assert "cannot write" in capsys.readouterr().err
