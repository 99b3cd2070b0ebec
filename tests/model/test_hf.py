"""Weights of Hugging Face folders: parity with transformers, files that are not what they should
be, and the way back."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shutil
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from azr_jax.errors import UserError
from azr_jax.model import hf
from azr_jax.model.attention import Layout
from azr_jax.model.config import ModelConfig
from azr_jax.model.shards import INDEX, SINGLE, ShardWriter, read_shards
from azr_jax.model.transformer import Params, Transformer

GOLDENS = Path(__file__).resolve().parent.parent / "goldens"
CASES = sorted(path.name for path in (GOLDENS / "hf").iterdir())
TOLERANCE = 5e-5
COMPILED_SOON = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def our_logits(config: ModelConfig, params: Params, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """float32 [b, t, v] by every way through the decoder."""
    model = Transformer(dataclasses.replace(config, unroll=1))
    batch, time = tokens.shape

    @partial(jax.jit, compiler_options=COMPILED_SOON)
    def run(params: Params, tokens: jax.Array) -> dict[str, jax.Array]:
        apply = partial(model.apply, {"params": params})

        def logits(hidden: jax.Array) -> jax.Array:
            return apply(hidden, method="unembed")

        def decode(cache: Any, position: jax.Array) -> tuple[Any, jax.Array]:
            places = jnp.full(batch, position)
            hidden, cache = apply(tokens[:, position], places, cache, method="decode")
            return cache, logits(hidden)

        packed = apply(tokens, Layout.of_lengths(jnp.full(batch, time), time))
        # Prompts of every length, in one batch.
        lengths = jnp.tile(jnp.arange(1, time + 1), batch)
        last, _ = apply(jnp.repeat(tokens, time, axis=0), lengths, method="prefill")
        first, cache = apply(tokens, jnp.ones(batch, int), method="prefill")
        _, later = jax.lax.scan(decode, cache, jnp.arange(1, time))
        return {
            "packed": logits(packed),
            "prefill": logits(last).reshape(batch, time, -1),
            "decode": jnp.concatenate([logits(first)[:, None], later.swapaxes(0, 1)], axis=1),
        }

    return {way: np.asarray(found) for way, found in run(params, tokens).items()}


def assert_parity(folder: Path, tokens: np.ndarray, wanted: np.ndarray) -> None:
    config = hf.read_config(folder)
    assert np.abs(wanted).max() > 1
    for way, logits in our_logits(config, hf.read_params(folder, config), tokens).items():
        assert np.abs(logits - wanted).max() <= TOLERANCE, way


@pytest.mark.parametrize("case", CASES)
def test_logits_are_the_golden_ones(case: str) -> None:
    folder = GOLDENS / "hf" / case
    with np.load(folder / "golden.npz") as golden:
        assert_parity(folder, golden["tokens"], golden["logits"])


@pytest.mark.parametrize(
    ("case", "shape"),
    [
        ("qwen2_tied", {"num_attention_heads": 7, "num_key_value_heads": 1, "hidden_size": 56}),
        ("qwen3_untied", {"num_key_value_heads": 3, "vocab_size": 257, "head_dim": 16}),
        ("llama3_1", {"num_key_value_heads": 6, "vocab_size": 131, "num_hidden_layers": 3}),
    ],
)
def test_logits_are_those_of_transformers(case: str, shape: dict[str, int], tmp_path: Path) -> None:
    """Other shapes than the goldens, live."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    spec = importlib.util.spec_from_file_location("make_hf", GOLDENS / "make_hf.py")
    assert spec is not None and spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    model = make.build(case, seed=11, **shape)
    tokens = np.random.default_rng(3).integers(0, 101, (2, 29)).astype(np.int32)
    wanted = make.logits_of(model, tokens)
    make.save(model, case, tmp_path)
    assert_parity(tmp_path, tokens, wanted)


def test_goldens_hold_what_they_are_for() -> None:
    configs = {case: hf.read_config(GOLDENS / "hf" / case) for case in CASES}
    assert {c.family for c in configs.values()} == {"llama", "qwen2", "qwen3"}
    for config in configs.values():
        assert config.kv_heads < config.heads
        assert config.heads * config.head_dim != config.d_model
        assert config.vocab_size % 128
    for family in ("llama", "qwen2", "qwen3"):
        assert {c.tied_embeddings for c in configs.values() if c.family == family} == {True, False}
    factors = {c.rope_scaling.factor for c in configs.values() if c.rope_scaling}
    assert factors == {8.0, 32.0}
    assert (GOLDENS / "hf" / "qwen3_untied" / INDEX).is_file()


# --- folders that are not what they should be ---------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of one file: qwen2_untied."""
    path = tmp_path / "model"
    shutil.copytree(GOLDENS / "hf" / "qwen2_untied", path)
    return path


def changed(folder: Path, change: Callable[[dict[str, np.ndarray]], object]) -> str:
    """The error of a folder whose tensors were changed."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError) as error:
        hf.open_weights(folder, hf.read_config(folder))
    return str(error.value)


def test_an_error_names_what_is_missing_superfluous_and_misshapen(folder: Path) -> None:
    def change(tensors: dict[str, np.ndarray]) -> None:
        del tensors["model.layers.1.self_attn.k_proj.bias"]
        tensors["model.layers.2.mlp.up_proj.weight"] = np.zeros(3, np.float32)
        norm = tensors["model.norm.weight"]
        tensors["model.norm.weight"] = norm[:-1]

    message = changed(folder, change)
    assert "missing model.layers.1.self_attn.k_proj.bias" in message
    assert "superfluous model.layers.2.mlp.up_proj.weight" in message
    assert "misshapen model.norm.weight (41,) instead of (42,)" in message


def test_an_error_names_a_dtype_that_is_not_supported(folder: Path) -> None:
    message = changed(
        folder, lambda t: t.update({"model.norm.weight": t["model.norm.weight"].astype(np.int8)})
    )
    assert "model.norm.weight I8" in message


def test_a_lost_output_matrix_is_missing_unless_embeddings_are_tied(folder: Path) -> None:
    assert "missing lm_head.weight" in changed(folder, lambda t: t.pop("lm_head.weight"))


def test_many_tensors_are_counted_not_listed(folder: Path) -> None:
    message = changed(folder, lambda t: [t.pop(n) for n in list(t) if "layers.0" in n])
    assert re.search(r"missing (\S+, ){5}\S+ and 6 more", message)


def test_tied_embeddings_may_be_there_twice_if_they_are_equal(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(GOLDENS / "hf" / "qwen2_tied", folder)
    config = hf.read_config(folder)
    wanted = hf.read_params(folder, config)
    tensors = load_file(folder / "model.safetensors")
    embedding = tensors["model.embed_tokens.weight"]
    tensors["lm_head.weight"] = embedding.copy()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(4, np.float32)
    save_file(tensors, folder / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, hf.read_params(folder, config), wanted)
    message = changed(folder, lambda t: t.update({"lm_head.weight": embedding + embedding}))
    assert "ties the embeddings, but lm_head.weight differs" in message


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(GOLDENS / "hf" / "qwen3_untied", folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"missing shard: model-00002-of-00002\.safetensors"):
        read_shards(folder)


@pytest.mark.parametrize(
    "weight_map", [{"a": "../model.safetensors"}, {"a": 3}, ["model.safetensors"], None]
)
def test_a_false_index_is_refused(folder: Path, weight_map: object) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match="index"):
        read_shards(folder)


def test_a_tensor_in_two_files_is_refused(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    for name in ("model-1.safetensors", "model-2.safetensors"):
        (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=r"is in model-1\.safetensors and model-2\.safetensors"):
        read_shards(folder)


def test_a_single_file_beside_an_index_of_others_is_refused_and_both_are_named(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(GOLDENS / "hf" / "qwen3_untied", folder)
    config = hf.read_config(folder)
    hf.write_params(folder, hf.read_params(folder, config), config)  # model.safetensors
    with pytest.raises(UserError) as error:
        hf.open_weights(folder, config)
    assert SINGLE in str(error.value)
    assert INDEX in str(error.value)
    assert "model-00001-of-00002.safetensors" in str(error.value)
    (folder / INDEX).unlink()
    assert {tensor.path.name for tensor in hf.open_weights(folder, config).values()} == {SINGLE}


def test_an_index_may_name_the_single_file(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys("ab", SINGLE)}))
    assert read_shards(folder)


@pytest.mark.parametrize("case", ["qwen2_untied", "qwen3_untied"])
def test_files_that_transformers_would_not_read_are_left_and_named(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(GOLDENS / "hf" / case, folder)
    wanted = {name: tensor.path.name for name, tensor in read_shards(folder).items()}
    assert not caplog.records
    old = next(folder.glob("*.safetensors")).read_bytes()
    (folder / "model-00003-of-00003.safetensors").write_bytes(old)
    (folder / "pytorch_model.bin").write_bytes(b"another model")
    assert {name: tensor.path.name for name, tensor in read_shards(folder).items()} == wanted
    assert "model-00003-of-00003.safetensors" in caplog.text


def test_weights_that_transformers_would_load_instead_are_named(folder: Path) -> None:
    (folder / SINGLE).rename(folder / "model.fp16.safetensors")
    assert read_shards(folder)
    (folder / "pytorch_model.bin").write_bytes(b"another model")
    with pytest.raises(UserError, match=r"pytorch_model\.bin and not model\.fp16\.safetensors"):
        read_shards(folder)


def test_weights_that_an_adapter_changes_are_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="an adapter: merge it"):
        read_shards(folder)


def header(row: object, length: int | None = None) -> bytes:
    text = json.dumps(row).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05",
        header({}, 2**60),
        header({})[:9],
        header([1]),
        header({"a": 1}),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}) + bytes(8),
        header({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}) + bytes(8),
        header({"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 8]}}) + bytes(8),
        header({"a": {"dtype": "F32", "data_offsets": [0, 8]}}) + bytes(8),
    ],
)
def test_a_damaged_file_is_one_clear_error(folder: Path, data: bytes) -> None:
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(UserError, match=r"model\.safetensors: damaged or not safetensors"):
        read_shards(folder)


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no \*\.safetensors"):
        read_shards(tmp_path)


# --- the way back ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_written_parameters_are_the_tensors_that_were_read(case: str, tmp_path: Path) -> None:
    source = GOLDENS / "hf" / case
    config = hf.read_config(source)
    hf.write_params(tmp_path, hf.read_params(source, config), config)
    files = [load_file(path) for path in source.glob("*.safetensors")]
    wanted = {name: weight for file in files for name, weight in file.items()}
    written = load_file(tmp_path / "model.safetensors")
    assert written.keys() == wanted.keys()
    for name, weight in wanted.items():
        np.testing.assert_array_equal(written[name], weight.astype(np.float32))


def test_shards_are_read_back_by_the_library(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "a": rng.normal(size=(7, 5)).astype(ml_dtypes.bfloat16),
        "b": rng.normal(size=(3,)).astype(np.float32),
        "c": rng.normal(size=(40, 6)).astype(np.float32),
        "d": rng.normal(size=(2, 2)).astype(np.float16),
    }
    layout = {name: (x.dtype, x.shape) for name, x in tensors.items()}
    with ShardWriter(tmp_path, layout, shard_bytes=200) as writer:
        for name in ("d", "c", "b"):
            writer.write(name, tensors[name])
        writer.write("a", tensors["a"][4:], first=4)
        writer.write("a", tensors["a"][:4].T.T.astype(np.float32))
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in tensors.values())
    assert len(set(index["weight_map"].values())) == 3
    for name, file in index["weight_map"].items():
        assert re.fullmatch(r"model-0000[123]-of-00003\.safetensors", file)
        found = load_file(tmp_path / file)[name]
        assert found.dtype == tensors[name].dtype
        np.testing.assert_array_equal(found, tensors[name])
    for name, tensor in read_shards(tmp_path).items():
        np.testing.assert_array_equal(tensor.read(), tensors[name])


def test_a_tensor_that_was_not_written_whole_is_an_error(tmp_path: Path) -> None:
    layout = {"a": (np.dtype(np.float32), (4, 2)), "b": (np.dtype(np.float32), (1,))}
    with (
        pytest.raises(RuntimeError, match="not written whole: a"),
        ShardWriter(tmp_path, layout) as writer,
    ):
        writer.write("b", np.ones(1, np.float32))
        writer.write("a", np.ones((3, 2), np.float32))


def test_tensors_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azr_jax.model.shards.PIECE_BYTES", 100)
    table = np.arange(70, dtype=np.float32).reshape(14, 5)
    save_file({"a": table}, tmp_path / "model.safetensors")
    pieces = list(read_shards(tmp_path)["a"].pieces())
    assert [first for first, _ in pieces] == [0, 5, 10]
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in pieces]), table)
