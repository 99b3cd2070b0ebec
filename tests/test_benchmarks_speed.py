"""The speed benchmarks' own arithmetic: lengths, ratios, claims, what a missing peer leads to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from azr_jax.learn.batching import fill
from tests.until import PATIENCE_S

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def scripts() -> dict[str, ModuleType]:
    """The modules, loaded as the scripts load each other."""
    before = list(sys.path)
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks import accelerator, beside, sampler, step, update
    finally:
        sys.path[:] = before
    modules = (accelerator, beside, sampler, step, update)
    return {module.__name__.rpartition(".")[2]: module for module in modules}


def taken(module: ModuleType, **seconds: list[float]) -> dict[str, list[object]]:
    """100 tokens in each of so many seconds."""
    return {name: [module.Took(100, s) for s in all_s] for name, all_s in seconds.items()}


def test_a_ratio_is_the_median_of_the_rounds(scripts: dict[str, ModuleType]) -> None:
    beside = scripts["beside"]
    found = taken(beside, ours=[1.0, 2.0, 1.0], peer=[3.0, 4.0, 50.0])
    assert beside.ratio(found, "peer") == pytest.approx(3.0)
    assert "| peer | 25 | 3.00 |" in beside.table("title", found)


def test_heavy_tailed_lengths(scripts: dict[str, ModuleType]) -> None:
    lengths = scripts["beside"].heavy_tailed(128, 256, seed=0)
    assert len(lengths) == 128
    assert max(lengths) == 256
    assert min(lengths) >= 4
    assert np.mean(lengths) == pytest.approx(256 / 5, rel=0.1)
    assert sorted(lengths) == sorted(scripts["beside"].heavy_tailed(128, 256, seed=1))


def test_claims_are_the_least_over_the_models(scripts: dict[str, ModuleType]) -> None:
    beside, sampler = scripts["beside"], scripts["sampler"]
    found = {}
    for model, factor in (("tiny", 2.0), ("medium", 3.0)):
        for case, more in (("varied", 2.0), ("equal", 1.0)):
            times = {name: [factor * more] for name in sampler.PEERS}
            found[model, case] = taken(beside, ours=[1.0], **times)
    assert sampler.claims(found) == pytest.approx(
        {
            "varied_vs_transformers": 4.0,
            "varied_vs_tunix": 4.0,
            "equal_vs_transformers": 2.0,
            "equal_vs_tunix": 2.0,
        }
    )


def test_the_update_packs_the_batch_that_the_peers_get(scripts: dict[str, ModuleType]) -> None:
    update = scripts["update"]
    batch = update.request(416)
    found = fill(update.packed(batch))
    assert found.trained_tokens == sum(map(len, batch["completions"]))
    prompts = sum(map(len, batch["prompts"]))
    assert found.tokens == prompts - update.SAMPLES + found.trained_tokens
    json.dumps(batch)  # peers get it as text
    assert len(batch["prompts"]) % update.MICRO == 0


def test_shares_of_a_step(scripts: dict[str, ModuleType]) -> None:
    step = scripts["step"]
    totals = step.Totals(
        wall_s=4.0,
        waited_s=0.1,
        own_cpu_s=6.0,
        sandbox_cpu_s=2.0,
        host_s=0.2,
        tokens=400,
        compiled=0,
    )
    found = step.shares([totals, totals])
    assert found == pytest.approx(
        {
            "sandbox_wait_share": 0.025,
            "sandbox_cpu_share": 0.25,
            "host_share": 0.05,
            "recompiles": 0,
            "tokens_per_s": 100.0,
        }
    )


def test_an_accelerator_is_measured_by_its_ceilings_and_its_peers(
    scripts: dict[str, ModuleType],
) -> None:
    rows = [
        {"case": "ceilings", "copy_bytes_per_s": 4e12, "flop_per_s": 8e14},
        {"case": "decode", "model": "7B", "slots": 64, "bytes_per_s": 3e12},
        {"case": "update", "model": "1.5B", "remat": "dots", "flop_per_s": 4e14, "step_s": 2.0},
        {"case": "update", "model": "1.5B", "side": "torch", "wall_s": 5.0},
        {"case": "drain", "model": "7B", "side": "ours", "tokens": 100, "wall_s": 1.0},
        {"case": "drain", "model": "7B", "side": "tunix", "tokens": 100, "wall_s": 3.0},
    ]
    assert scripts["accelerator"].claims(rows) == pytest.approx(
        {
            "decode_7B_64_share_of_copy": 0.75,
            "update_1.5B_dots_mfu": 0.5,
            "update_vs_torch": 2.5,
            "drain_vs_tunix": 3.0,
        }
    )


@pytest.mark.parametrize("name", ["sampler", "update"])
def test_a_missing_peer_ends_the_script(name: str, tmp_path: Path) -> None:
    """In a copy of the scripts, beside which no environment stands."""
    copy = tmp_path / "benchmarks"
    copy.mkdir()
    for source in (ROOT / "benchmarks").glob("*.py"):
        (copy / source.name).write_bytes(source.read_bytes())
    done = subprocess.run(
        [sys.executable, str(copy / f"{name}.py")],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["torch, a peer, is not installed: make peers"]
