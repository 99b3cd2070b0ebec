"""Names of directories: each that a file system takes works, or is refused before any work."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from azr_jax import cli, config, storage
from azr_jax.errors import UserError
from azr_jax.learn import checkpoint
from azr_jax.learn.arrays import ParamsReader, ParamsWriter
from azr_jax.report.card import model_card

WORK = [
    *(" a b ", "'q\" u'", "a%20b%", "a#b&c;$d", "a\nb\tc", "é 日本", "e\u0301", ".hidden"),
    *("-dash", "trail.", "~", "a:b|c=d@e", "file:", "{a}", "x" * 255, "1.orbax-checkpoint-tmp"),
]
REFUSED = ["a[1]b", "a*b", "a?b", "[", "a\\b", "a\\", "gs:", "dogs:", "\udcff", "a\0b", "x" * 256]


@pytest.fixture(scope="module")
def state() -> Any:
    import jax
    import jax.numpy as jnp

    from azr_jax.learn.state import TrainState

    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    made = TrainState(
        params={"w": jnp.arange(12.0).reshape(3, 4)},
        opt_state=(jnp.zeros(3),),
        step=jnp.asarray(1),
        skipped=jnp.asarray(0),
    )
    return jax.device_put(made, place)


def abstract(state: Any) -> Any:
    import jax

    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def save(run: Path, state: Any) -> None:
    with checkpoint.Checkpoints(run / "checkpoints") as checkpoints:
        checkpoints.save(1, state, {"rows": []}, {"model": {}})


def require_whole(run: Path, state: Any) -> None:
    """Both readers of arrays find what was saved."""
    found = checkpoint.Checkpoints(run / "checkpoints").restore_latest(abstract(state))
    assert found is not None
    np.testing.assert_array_equal(found[0].params["w"], state.params["w"])
    reader = ParamsReader(checkpoint.find(run)[0])
    [(_, values)] = reader.pieces("w")
    reader.verify()
    np.testing.assert_array_equal(values, state.params["w"])


@pytest.mark.parametrize("name", WORK, ids=ascii)
def test_a_checkpoint_under_this_name_is_read_again(name: str, state: Any, tmp_path: Path) -> None:
    save(tmp_path / name, state)
    require_whole(tmp_path / name, state)


@pytest.mark.parametrize("name", ["new/../run", "./run", "link/../run", "link"])
def test_relative_names(
    name: str, state: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep[1]" / "er").mkdir(parents=True)
    (tmp_path / "plain" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to("plain/er" if name != "link" else "deep[1]/er")
    save(Path(name), state)
    require_whole(Path(name), state)


@pytest.mark.parametrize("name", [*REFUSED, ("y" * 200 + "/") * 20], ids=lambda n: ascii(n)[:20])
def test_a_name_that_cannot_be_used_is_refused_at_the_start(
    name: str, state: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="cannot be used"):
        save(tmp_path / name, state)
    with pytest.raises(UserError, match="cannot be used"):
        checkpoint.save_params(tmp_path / name, state.params, {"model": {}})
    for below in (name, f"{name}/run"):
        assert cli.main(["train", "--run_dir", below]) == 2
        assert cli.main(["train", "--gin_bindings", f"RUN_DIR = {below!r}"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2
        assert all("cannot be used" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_a_run_directory_that_is_no_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("kept")
    for name in ("", str(tmp_path / "file"), str(tmp_path / "file" / "below")):
        assert cli.main(["train", "--run_dir", name]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "kept"


def test_a_run_that_was_moved_to_a_name_is_read_where_it_can_be(state: Any, tmp_path: Path) -> None:
    save(tmp_path / "run", state)
    for name in ("a[1]b", "a*b"):
        shutil.copytree(tmp_path / "run", tmp_path / name)
        assert checkpoint.load_meta(tmp_path / name)["step"] == 1
    shutil.copytree(tmp_path / "run", tmp_path / "a\\b")
    with pytest.raises(UserError, match="cannot be used"):  # not: all are damaged
        checkpoint.load_meta(tmp_path / "a\\b")


@pytest.mark.parametrize("name", ["a[1]b", *WORK[:5]], ids=ascii)
def test_an_imported_model_is_read_again(name: str, state: Any, tmp_path: Path) -> None:
    """`azr import` writes no pieces that a pattern has to find."""
    out = tmp_path / name
    out.mkdir()
    weights = np.asarray(state.params["w"])
    with ParamsWriter(out, {"w": (weights.shape, weights.dtype)}) as writer:
        writer.write("w", weights)
        writer.finish({"model": {}})
    found, _ = checkpoint.load_params(out, abstract(state).params)
    np.testing.assert_array_equal(found["w"], weights)


@pytest.mark.parametrize("flag", ["--hf", "--out"])
def test_other_directories_that_cannot_be(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"--hf": str(tmp_path), "--out": str(tmp_path / "out")}
    for name in ("", "x" * 256, "a\0b", "\udcff", *(["a\\b"] if flag == "--out" else [])):
        given = names | {flag: name}
        try:
            code: Any = cli.main(["import", *(word for pair in given.items() for word in pair)])
        except SystemExit as exit:
            code = exit.code
        assert code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "cannot be used" in error


@pytest.mark.parametrize("name", [*WORK, *REFUSED], ids=lambda n: ascii(n)[:20])
def test_a_name_passes_through_gin(name: str, tmp_path: Path) -> None:
    config.parse(["runs/tiny.gin"], [f"RUN_DIR = {name!r}", f"SEED_FILES = ({name!r},)"])
    built = config.build("RunConfig")
    path = tmp_path / "config.gin"
    storage.write(path, config.operative_text())
    config.parse([str(path)])
    assert config.build("RunConfig") == built
    assert built.run_dir == name


@pytest.mark.parametrize("name", [*WORK, "a[1]b", "true", "1e3", "null", "a: b"], ids=ascii)
def test_a_model_card_names_what_it_is_of(name: str) -> None:
    card = model_card(name, base="org/model", licence=None, parameters=1, dtype="f32", meta={})
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["model_name"] == name
    assert front["base_model"] == "org/model"
    code = card.split("```python\n")[1].split("```")[0]
    loaded = code.split("from_pretrained(")[2].rpartition(")")[0]
    assert yaml.safe_load(loaded) == name
    compile(code, "card", "exec")


@pytest.mark.parametrize(
    "name", ["a[1]", "a*", "a?", "a#1", "a/../b", "..", "a\\b", "a\nb", "gs:/b"]
)
def test_a_name_in_a_bucket_that_is_a_pattern_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_require_bucket", lambda bucket: None)
    with pytest.raises(UserError, match="cannot be used"):
        storage.array_place(f"gs://bucket/{name}")
    for plain in ("a b/", "é", "a%20b", "'q'", ".a"):
        assert storage.array_place(f"gs://bucket/runs/{plain}").name == plain.rstrip("/")
