"""`azr import` and `azr export`: there and back, into runs and out of them, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import tokenizers
from safetensors.numpy import load_file

from azr_jax import cli
from azr_jax.convert import export_model, import_model
from azr_jax.learn import arrays
from azr_jax.learn.checkpoint import CheckpointError, Checkpoints, describe
from azr_jax.learn.optimizer import OptimizerConfig, make_optimizer
from azr_jax.learn.state import state_of_params
from azr_jax.model import folder, hf
from azr_jax.model.config import ModelConfig, RopeScaling
from azr_jax.model.sharding import MeshConfig, make_mesh
from azr_jax.model.shards import INDEX, ShardWriter
from azr_jax.model.transformer import Params
from azr_jax.policy import EMBEDDED, Policy, keep_tokenizer, load_policy

BF16 = np.dtype(ml_dtypes.bfloat16)
SHAPE: dict[str, Any] = {
    "vocab_size": 421,
    "d_model": 24,
    "layers": 3,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 10,
    "d_ff": 36,
}
MODELS = {
    "qwen2": ModelConfig(**SHAPE, family="qwen2", qkv_bias=True, rope_theta=1e6),
    "qwen3": ModelConfig(**SHAPE, family="qwen3", qk_norm=True, tied_embeddings=False),
    "llama": ModelConfig(**SHAPE, rope_scaling=RopeScaling(32.0), tied_embeddings=False),
}
CARD = "---\nlicense: llama3.2\nbase_model: a/b\n---\n# A model\n"


def make_folder(
    path: Path, config: ModelConfig, dtype: np.dtype = BF16, shard: int = 20_000
) -> Path:
    """A random model with the tiny tokenizer, as one finds it on the hub."""
    path.mkdir()
    hf.write_config(path, config, eos_id=1, pad_id=0, dtype=str(dtype))
    layout = {name: (dtype, slot.shape) for name, slot in hf.slots(config).items()}
    rng = np.random.default_rng(7)
    with ShardWriter(path, layout, shard) as writer:
        for name, (_, shape) in layout.items():
            writer.write(name, 0.3 * rng.normal(size=shape))
    for name, data in folder.tokenizer_files(EMBEDDED).items():
        (path / name).write_bytes(data)
    (path / "README.md").write_text(CARD)
    (path / "LICENSE.txt").write_text("do as you like")
    return path


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "llama", MODELS["llama"])


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    return {n: x for file in path.glob("*.safetensors") for n, x in load_file(file).items()}


def assert_equal_tensors(ours: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert ours.keys() == wanted.keys()
    for name, x in wanted.items():
        assert ours[name].dtype == x.dtype, name
        np.testing.assert_array_equal(ours[name], x, err_msg=name)


def one_device() -> Any:
    return make_mesh(MeshConfig(), jax.devices()[:1])


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The single line of a command that ends with exit code 2."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


# --- there and back ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("dtype", [BF16, np.dtype(np.float32), np.dtype(np.float16)], ids=str)
def test_import_export_import_is_identical(family: str, dtype: np.dtype, tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source", MODELS[family], dtype)
    import_model(source, tmp_path / "first")
    export_model(str(tmp_path / "first"), tmp_path / "out", shard_bytes=15_000)
    import_model(tmp_path / "out", tmp_path / "second")
    assert_equal_tensors(tensors_of(tmp_path / "out"), tensors_of(source))
    assert (tmp_path / "out" / INDEX).is_file()
    names = [*folder.CONFIG_FILES, *folder.tokenizer_files(source), "LICENSE.txt"]
    for place in ("first", "out", "second"):
        for name in names:
            assert (tmp_path / place / name).read_bytes() == (source / name).read_bytes(), name
    first, second = (
        json.loads((tmp_path / place / "manifest" / "data.json").read_text())["params"]
        for place in ("first", "second")
    )
    assert first == second
    assert {row["dtype"] for row in first.values()} == {str(dtype)}


@pytest.mark.parametrize("family", MODELS)
def test_an_imported_model_is_the_folders_on_any_mesh(family: str, tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source", MODELS[family])
    import_model(source, tmp_path / "imported")
    wanted = load_policy(str(source), one_device())
    sharded = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    for mesh in (one_device(), sharded):
        got = load_policy(str(tmp_path / "imported"), mesh)
        assert got.model.config == wanted.model.config == MODELS[family]
        assert got.origin == wanted.origin
        assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(got.params))
        jax.tree.map(np.testing.assert_array_equal, got.params, wanted.params)
    assert got.params["layers"]["gate"].sharding.mesh == sharded
    assert not got.params["layers"]["gate"].sharding.is_fully_replicated


def test_large_arrays_are_written_and_read_in_pieces(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CHUNK_BYTES", "PIECE_BYTES"):
        monkeypatch.setattr(arrays, name, 700)
    monkeypatch.setattr("azr_jax.model.shards.PIECE_BYTES", 1000)
    import_model(llama, tmp_path / "imported")
    policy = load_policy(str(tmp_path / "imported"), one_device())
    wanted = hf.read_params(llama, MODELS["llama"])
    jax.tree.map(np.testing.assert_array_equal, policy.params, wanted)
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 1)  # chunks count as large now
    export_model(str(tmp_path / "imported"), tmp_path / "out")
    assert_equal_tensors(tensors_of(tmp_path / "out"), tensors_of(llama))


@pytest.mark.parametrize(("flag", "dtype"), [("f32", np.float32), ("bf16", BF16)])
def test_a_dtype_is_changed_where_asked(flag: str, dtype: Any, llama: Path, tmp_path: Path) -> None:
    for name, source in (("folder", llama), ("imported", tmp_path / "imported")):
        if name == "imported":
            import_model(llama, source)
        out = tmp_path / f"{name}_{flag}"
        export_model(str(source), out, flag)
        wanted = {n: x.astype(dtype) for n, x in tensors_of(llama).items()}
        assert_equal_tensors(tensors_of(out), wanted)
        assert json.loads((out / "config.json").read_text())["dtype"] == str(np.dtype(dtype))
        assert hf.read_config(out) == MODELS["llama"]


def test_an_old_configs_dtype_is_changed_where_it_stands(llama: Path, tmp_path: Path) -> None:
    row = json.loads((llama / "config.json").read_text())
    row["torch_dtype"] = row.pop("dtype")
    (llama / "config.json").write_text(json.dumps(row))
    export_model(str(llama), tmp_path / "out", "f32")
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == row | {
        "torch_dtype": "float32"
    }


def test_the_lines_say_what_was_done(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported, out = tmp_path / "imported", tmp_path / "out"
    assert cli.main(["import", "--hf", str(llama), "--out", str(imported)]) == 0
    said = r"imported: llama, [\d.]+ thousand parameters, bfloat16, licence llama3.2\n"
    assert re.search(said, capsys.readouterr().out)
    assert cli.main(["export", "--checkpoint", str(imported), "--out", str(out)]) == 0
    assert "out: llama, step 0, bfloat16, licence llama3.2\n" in capsys.readouterr().out
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlicense: llama3.2\n")
    assert "not trained by it" in card


def test_think_tokens_of_a_qwen3_base_model_are_mentioned(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source", MODELS["qwen3"])
    row = json.loads((source / "tokenizer.json").read_text())
    row["added_tokens"] += [
        row["added_tokens"][-1] | {"id": 409 + i, "content": token}
        for i, token in enumerate(("<|im_end|>", "</think>"))
    ]
    (source / "tokenizer.json").write_text(json.dumps(row))
    (source / "tokenizer.model").unlink()
    said = import_model(source, tmp_path / "imported")
    assert "<think> and </think> are read and written as text" in said
    assert "(410 ids are left)" in said
    assert "</think>" not in json.dumps(
        json.loads((tmp_path / "imported" / "tokenizer.json").read_text())["added_tokens"]
    )


def test_no_id_moves_on_the_way_from_import_through_a_run_to_export(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source", MODELS["qwen3"])
    row = json.loads((source / "tokenizer.json").read_text())
    tokens = ("<|im_end|>", "<think>", "</think>", "<mine>")
    row["added_tokens"] = [t for t in row["added_tokens"] if t["content"] not in tokens]
    last = row["added_tokens"][-1]
    row["added_tokens"] += [last | {"id": 409 + i, "content": t} for i, t in enumerate(tokens)]
    row["model"]["vocab"] = {t: i for t, i in row["model"]["vocab"].items() if t not in tokens}
    row["model"]["vocab"] |= {"unreachable0": 4, "unreachable1": 5}
    (source / "tokenizer.json").write_text(json.dumps(row))
    (source / "tokenizer.model").unlink()
    import_model(source, tmp_path / "imported")
    policy = load_policy(str(tmp_path / "imported"), one_device())
    make_run(tmp_path / "run", policy, (1,))
    export_model(str(tmp_path / "run"), tmp_path / "out")
    for place in ("imported", "run/tokenizer", "out"):
        library = tokenizers.Tokenizer.from_file(str(tmp_path / place / "tokenizer.json"))
        assert library.token_to_id("<mine>") == 412, place
        assert library.token_to_id("<think>") is None


# --- runs ----------------------------------------------------------------------------------------


def make_run(path: Path, policy: Policy, steps: tuple[int, ...]) -> list[Params]:
    """A run directory with checkpoints; returns their parameters."""
    (path / "checkpoints").mkdir(parents=True)
    keep_tokenizer(policy, path)
    (path / "config.gin").write_text("RunConfig.seed = 3\n")
    meta = describe(policy.model.config, gin_config="RunConfig.seed = 3", sandbox_level="2")
    optimizer = make_optimizer(OptimizerConfig(), 1)
    saved = []
    with Checkpoints(path / "checkpoints", keep=len(steps)) as checkpoints:
        for step in steps:
            params = jax.tree.map(lambda x, step=step: jnp.asarray(x) + 0.01 * step, policy.params)
            saved.append(jax.tree.map(np.asarray, params))
            state = state_of_params(policy.model, optimizer, policy.mesh, params)
            checkpoints.save(step, state, {}, meta)
    return saved


def test_a_run_is_exported_in_the_dtype_of_its_base_and_says_how_it_was_made(
    llama: Path, tmp_path: Path
) -> None:
    import_model(llama, tmp_path / "imported")
    policy = load_policy(str(tmp_path / "imported"), one_device())
    first, last = make_run(tmp_path / "run", policy, (2, 4))
    for place, params in (("run", last), ("run/checkpoints/2", first)):
        out = tmp_path / place.replace("/", "_")
        export_model(str(tmp_path / place), tmp_path / f"{out.name}_out")
        export_model(str(tmp_path / place), tmp_path / f"{out.name}_f32", "f32")
        bf16, f32 = (tensors_of(tmp_path / f"{out.name}_{name}") for name in ("out", "f32"))
        hf.write_params(_made(tmp_path / f"{out.name}_wanted"), params, MODELS["llama"])
        wanted = tensors_of(tmp_path / f"{out.name}_wanted")
        assert_equal_tensors(f32, wanted)
        assert_equal_tensors(bf16, {n: x.astype(BF16) for n, x in wanted.items()})
    out = tmp_path / "run_out"
    assert (out / "config.json").read_bytes() == (llama / "config.json").read_bytes()
    assert (out / "LICENSE.txt").is_file()
    card = (out / "README.md").read_text()
    assert "from llama" in card and "| steps of self-play | 4 |" in card
    assert "license: llama3.2" in card and "RunConfig.seed = 3" in card


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_run_from_a_folder_knows_its_base_too(llama: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "run", load_policy(str(llama), one_device()), (1,))
    export_model(str(tmp_path / "run"), tmp_path / "out")
    assert {x.dtype for x in tensors_of(tmp_path / "out").values()} == {BF16}
    # … and so does a run that goes on from the run.
    policy = load_policy(str(tmp_path / "run"), one_device())
    assert (policy.origin.name, policy.origin.licence) == ("llama", "llama3.2")


def test_a_run_on_a_mesh_is_exported_whole(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its chunks are what each device held."""
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    (params,) = make_run(tmp_path / "run", load_policy(str(llama), mesh), (1,))
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 1)  # chunks count as large
    monkeypatch.setattr(arrays, "PIECE_BYTES", 2000)
    export_model(str(tmp_path / "run"), tmp_path / "out", "f32")
    config = MODELS["llama"]
    jax.tree.map(np.testing.assert_array_equal, hf.read_params(tmp_path / "out", config), params)


def test_export_reads_no_optimizer(llama: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "run", load_policy(str(llama), one_device()), (1,))
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "1" / "optimizer")
    export_model(str(tmp_path / "run"), tmp_path / "out")
    assert tensors_of(tmp_path / "out").keys() == tensors_of(llama).keys()


def test_a_run_of_before_origins_were_kept_is_exported_as_it_is_stored(tmp_path: Path) -> None:
    policy = load_policy("tiny", one_device())
    make_run(tmp_path / "run", policy, (1,))
    for name in (*folder.CONFIG_FILES, folder.ORIGIN_FILE):
        (tmp_path / "run" / "tokenizer" / name).unlink()
    export_model(str(tmp_path / "run"), tmp_path / "out")
    assert hf.read_config(tmp_path / "out") == policy.model.config
    assert load_policy(str(tmp_path / "out"), one_device()).tokenizer.eos_ids == (1,)
    assert "an unknown model" in (tmp_path / "out" / "README.md").read_text()


# --- damage --------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    """One bit in the middle of the largest file of arrays."""
    file = max((f for f in path.rglob("d/*") if f.is_file()), key=lambda f: f.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(bytes(data))


def stored_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uncompressed chunks: then only a digest tells that a bit was flipped."""
    zarr = arrays._zarr

    def plain(*arguments: Any) -> Any:
        spec = zarr(*arguments)
        spec["metadata"]["codecs"] = spec["metadata"]["codecs"][:1]
        return spec

    monkeypatch.setattr(arrays, "_zarr", plain)


@pytest.mark.parametrize("plain", [False, True])
def test_a_flipped_bit_of_an_imported_model_is_recognised(
    plain: bool, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        stored_plain(monkeypatch)
    import_model(llama, tmp_path / "imported")
    flip(tmp_path / "imported")
    with pytest.raises(CheckpointError, match="imported"):
        load_policy(str(tmp_path / "imported"), one_device())
    with pytest.raises(CheckpointError, match="imported"):
        export_model(str(tmp_path / "imported"), tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["imported", "llama"]


def test_export_takes_the_newest_sound_checkpoint_and_says_so(
    llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = make_run(tmp_path / "run", load_policy(str(llama), one_device()), (1, 2))
    flip(tmp_path / "run" / "checkpoints" / "2" / "params")
    with caplog.at_level(logging.WARNING):
        said = export_model(str(tmp_path / "run"), tmp_path / "out", "f32")
    assert "step 1" in said
    assert re.search(r"checkpoints/2 is damaged .*; trying an older one", caplog.text)
    embedding = tensors_of(tmp_path / "out")["model.embed_tokens.weight"]
    np.testing.assert_array_equal(embedding, first["embedding"])
    assert "| steps of self-play | 1 |" in (tmp_path / "out" / "README.md").read_text()


def test_only_damaged_checkpoints_end_in_one_line(llama: Path, tmp_path: Path) -> None:
    import_model(llama, tmp_path / "imported")
    flip(tmp_path / "imported")
    with pytest.raises(SystemExit, match=r"^azr: [^\n]*imported[^\n]*$"):
        cli.main(["export", "--checkpoint", str(tmp_path / "imported"), "--out", "out"])


def test_a_torn_import_leaves_nothing_and_the_next_one_works(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "imported"
    with monkeypatch.context() as patch:
        patch.setattr(arrays.ParamsWriter, "finish", _full_disk)
        with pytest.raises(OSError, match="No space"):
            import_model(llama, out)
    assert not list(tmp_path.glob("imported*"))
    (tmp_path / "imported.partial").mkdir()  # of one that was killed
    (tmp_path / "imported.partial" / "params").mkdir()
    out.mkdir()  # empty: may be taken
    import_model(llama, out)
    load_policy(str(out), one_device())
    assert not (tmp_path / "imported.partial").exists()


def _full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


# --- bad input -----------------------------------------------------------------------------------


def lose_a_shard(path: Path) -> None:
    sorted(path.glob("*.safetensors"))[1].unlink()


def cut_a_shard(path: Path) -> None:
    file = sorted(path.glob("*.safetensors"))[0]
    file.write_bytes(file.read_bytes()[:-10])


def rename_architecture(path: Path) -> None:
    row = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(row | {"model_type": "mamba"}))


def shrink_the_embedding(path: Path) -> None:
    shutil.rmtree(path)
    make_folder(path, dataclasses.replace(MODELS["llama"], vocab_size=400))


def lose_the_tokenizer(path: Path) -> None:
    for file in path.glob("tokenizer*"):
        file.unlink()


def lose_the_config(path: Path) -> None:
    (path / "config.json").unlink()


def shrink_the_config(path: Path) -> None:
    row = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(row | {"num_hidden_layers": 2}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lose_a_shard, "missing shard: model-00002-of-"),
        (cut_a_shard, "damaged or not safetensors"),
        (rename_architecture, "model_type 'mamba'"),
        (shrink_the_embedding, r"knows 409 ids, the model's embedding holds 400"),
        (lose_the_tokenizer, "no tokenizer.model and no tokenizer.json"),
        (lose_the_config, "config.json: not readable"),
        (shrink_the_config, "superfluous model.layers.2.input_layernorm.weight"),
        (shutil.rmtree, "no such directory"),
    ],
)
def test_a_bad_folder_is_refused_before_anything_is_written(
    damage: Callable[[Path], None],
    message: str,
    llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(llama)
    assert message in refused(capsys, "import", "--hf", llama, "--out", tmp_path / "imported")
    if message != "no such directory":
        assert "azr: " in refused(capsys, "export", "--checkpoint", llama, "--out", tmp_path / "o")
    assert {path.name for path in tmp_path.iterdir()} <= {"llama"}


def test_an_unsupported_config_is_refused_though_weights_are_missing(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lose_a_shard(llama)
    rename_architecture(llama)
    assert "mamba" in refused(capsys, "import", "--hf", llama, "--out", tmp_path / "imported")


def test_a_folder_that_is_there_already_is_refused(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_model(llama, tmp_path / "imported")
    assert "is not empty" in refused(capsys, "import", "--hf", llama, "--out", llama)
    flags = ("--checkpoint", tmp_path / "imported", "--out")
    assert "is not empty" in refused(capsys, "export", *flags, llama)
    assert "is not empty" in refused(capsys, "export", *flags, llama / "config.json")
    nowhere = tmp_path / "no" / "such"
    assert "does not exist" in refused(capsys, "export", *flags, nowhere)
    assert "does not exist" in refused(capsys, "import", "--hf", llama, "--out", nowhere)
    assert "missing" not in refused(capsys, "import", "--hf", tmp_path, "--out", tmp_path / "x")


def test_a_checkpoint_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    flags = ("--out", out)
    assert "no such directory" in refused(capsys, "export", "--checkpoint", tmp_path / "x", *flags)
    assert "tokenizer" in refused(capsys, "export", "--checkpoint", tmp_path, *flags)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["export", "--checkpoint", str(tmp_path), "--out", str(out), "--dtype", "int8"])


def test_another_models_configuration_is_refused(llama: Path, tmp_path: Path) -> None:
    import_model(llama, tmp_path / "imported")
    other = dataclasses.replace(MODELS["llama"], d_ff=40)
    with pytest.raises(ValueError, match="d_ff = 36, the configuration says 40"):
        load_policy(str(tmp_path / "imported"), one_device(), other)
