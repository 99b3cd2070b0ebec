"""A whole run in a bucket: what it leaves there, how it goes on, who takes it from there."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from azr_jax import storage
from azr_jax.cli import main
from azr_jax.convert import import_model
from azr_jax.errors import UserError
from azr_jax.model.sharding import MeshConfig, make_mesh
from azr_jax.policy import EMBEDDED, load_policy
from azr_jax.report.metrics import read_rows
from azr_jax.train import train
from tests.emulator import Emulator, impatience
from tests.test_run import benchmarks

__all__ = ["benchmarks"]  # a fixture

OpenRun = Callable[..., Any]
FLAGS = (
    "PlayConfig.batch_size = 2",
    "PlayConfig.seed_target = 0",
    "RunConfig.save_every = 1",
    "EvalConfig.test = 'tiny-test'",
    "EvalConfig.dev = 'tiny-dev'",
    "EvalConfig.samples = 1",
    "EvalConfig.dev_samples = 1",
    "EvalConfig.temperatures = (1.0,)",
)


@pytest.fixture(scope="module")
def finished(
    emulator: Emulator, open_small: OpenRun, random_model: Sequence[str], benchmarks: None
) -> Path:
    """Two steps; in the second the bucket is out of reach, the run ends, and is resumed."""
    directory = storage.locate(emulator.make_bucket("azr-runs") + "/deep/whole")
    with ExitStack() as stack, open_small(directory, *random_model, *FLAGS) as run:
        pack = run.pack

        def in_the_second_step(*given: Any) -> Any:
            if run.saved == 1:
                run.checkpoints.wait()
                stack.enter_context(impatience())
                stack.enter_context(emulator.gate.shut())
            return pack(*given)

        run.pack = in_the_second_step
        with pytest.raises(storage.StorageError, match=r"gs://.*/00001.jsonl cannot be written"):
            train(run)
    with open_small(directory, *random_model, *FLAGS) as run:
        assert run.checkpoints.steps() == [1, 0]
        train(run)
    return directory


def test_the_run_directory(finished: Path) -> None:
    assert set(storage.names(finished)) == {
        *("config.gin", "tokenizer", "heldout", "checkpoints", "metrics", "samples"),
        "summary.json",
    }
    assert storage.names(finished / "checkpoints") == ["1", "2"]
    assert storage.names(finished / "heldout") == ["after.json", "before.json"]
    assert [row["step"] for row in read_rows(finished / "metrics")] == [0, 1]
    assert {row["step"] for row in read_rows(finished / "samples")} == {0, 1}
    summary = json.loads(storage.read(finished / "summary.json") or b"")
    assert (summary["run"], summary["steps"]) == (str(finished), 2)


def test_another_configuration_is_refused(
    finished: Path, open_small: OpenRun, random_model: Sequence[str]
) -> None:
    with pytest.raises(ValueError, match=r"RunConfig.seed was 0, is now 7"):  # noqa: SIM117
        with open_small(finished, *random_model, *FLAGS, "RunConfig.seed = 7"):
            pass
    with pytest.raises(ValueError, match="is not empty and is no run directory"):  # noqa: SIM117
        with open_small(finished.parent, *random_model, *FLAGS):
            pass


def test_a_run_starts_from_it(
    finished: Path, open_small: OpenRun, random_model: Sequence[str], tmp_path: Path
) -> None:
    flags = (*random_model[1:], f"RunConfig.init_checkpoint = {str(finished)!r}")
    with open_small(tmp_path / "next", *flags) as run:
        params = jax.tree.map(np.asarray, run.policy.params)
        assert run.policy.origin.name
    here = load_policy(str(finished / "checkpoints" / "2"), make_mesh(MeshConfig())).params
    jax.tree.map(np.testing.assert_array_equal, params, jax.tree.map(np.asarray, here))
    assert (tmp_path / "next" / "tokenizer" / "tokenizer.model").is_file()


def test_an_imported_model_that_was_copied_there(bucket: str, tmp_path: Path) -> None:
    """As tpu_scripts/import.sh does, with Orbax's mark last."""
    import_model(EMBEDDED, tmp_path / "model")
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    model = storage.locate(bucket) / "model"
    *files, mark = sorted(files, key=lambda path: path.name == "commit_success.txt")
    for path in files:
        storage.write(model / str(path.relative_to(tmp_path / "model")), path.read_bytes())
    mesh = make_mesh(MeshConfig())
    with pytest.raises(UserError, match="is not whole"):
        load_policy(str(model), mesh)
    storage.write(model / mark.name, mark.read_bytes())
    there, here = load_policy(str(model), mesh), load_policy("tiny", mesh)
    jax.tree.map(np.testing.assert_array_equal, there.params, here.params)
    assert there.tokenizer.encode("def f(x):") == here.tokenizer.encode("def f(x):")


def test_report(finished: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["report", str(finished)]) == 0
    assert capsys.readouterr().out == f"{finished}/report.html\n"
    page = storage.read(finished / "report.html") or b""
    storage.remove(finished / "report.html")
    assert b"<title>whole</title>" in page
    assert main(["report", str(finished), "--out", str(tmp_path / "report.html")]) == 0
    assert (tmp_path / "report.html").read_bytes() == page


def test_generate(finished: Path, tmp_path: Path) -> None:
    """With the configuration that lies beside the checkpoint."""
    (tmp_path / "prompts").write_text('{"id": 1, "prompt": "def"}\n')
    out = str(tmp_path / "out")
    command = ["generate", "--checkpoint", str(finished), "--prompts", str(tmp_path / "prompts")]
    assert main([*command, "--max_tokens", "4", "--out", out]) == 0
    assert len(json.loads(Path(out).read_text())["tokens"]) == 4


def test_export_with_a_tensorflow_about(finished: Path, tmp_path: Path) -> None:
    """etils and Orbax would take it, were they let."""
    decoy = tmp_path / "packages" / "tensorflow"
    decoy.mkdir(parents=True)
    (decoy / "__init__.py").write_text("raise RuntimeError('TensorFlow is imported')\n")
    command = [sys.executable, "-m", "azr_jax", "export", "--checkpoint", str(finished)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": str(decoy.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "step 2" in done.stdout
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.soak
def test_killed_within_saves_it_ends_as_the_unbroken_run(bucket: str, small_gin: Path) -> None:
    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "azr_jax", "train", "--gin_file", str(small_gin)]
        command += ["--run_dir", f"{bucket}/{name}", "--gin_bindings", "RunConfig.save_every = 1"]
        cache = {"JAX_COMPILATION_CACHE_DIR": f"{bucket}/cache", "JAX_PLATFORMS": "cpu"}
        return subprocess.Popen(
            [*command, "--steps", "12"],
            env=os.environ | cache,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    assert start("whole").wait() == 0
    steps = storage.locate(bucket) / "broken" / "checkpoints"
    chance = random.Random(0)
    for _ in range(8):
        before = storage.names(steps)
        process = start("broken")
        while process.poll() is None and storage.names(steps) == before:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 1))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start("broken").wait() == 0

    def learnt(name: str) -> tuple[Any, ...]:
        run = storage.locate(bucket) / name
        manifest = json.loads(
            storage.read(run / "checkpoints" / "12" / "manifest/data.json") or b""
        )
        rewards = [
            {key: value for key, value in row.items() if key.startswith(("reward", "loss", "grad"))}
            for row in read_rows(run / "metrics")
        ]
        kept = storage.names(run / "checkpoints")
        return manifest["params"], manifest["optimizer"], rewards, kept

    assert learnt("broken") == learnt("whole")


def test_compiled_programs_are_kept_in_a_bucket(bucket: str) -> None:
    changed = {
        "jax_compilation_cache_dir": f"{bucket}/cache",
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    old = {name: getattr(jax.config, name) for name in changed}
    storage.locate(bucket)
    hits = []
    jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
    for name, value in changed.items():
        jax.config.update(name, value)
    try:
        for _ in range(2):
            compilation_cache.reset_cache()
            jax.jit(lambda x: jnp.sin(x) * 3).lower(jnp.ones(7)).compile()
            jax.clear_caches()
    finally:
        for name, value in old.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
    assert any(name.endswith("-cache") for name in storage.names(storage.locate(bucket) / "cache"))
    assert "/jax/compilation_cache/cache_hits" in hits
