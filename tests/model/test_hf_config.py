"""config.json: the published shapes, and what is refused before a weight is read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from azr_jax import config as gin_config
from azr_jax.errors import UserError
from azr_jax.model.config import ModelConfig, RopeScaling
from azr_jax.model.hf_config import config_row, read_config, write_config

GIN = Path(__file__).resolve().parents[2] / "gin" / "models"

QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_act": "silu",
    "model_type": "qwen2",
    "max_window_layers": 28,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
}
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "model_type": "qwen3",
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
LLAMA3 = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "hidden_act": "silu",
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "vocab_size": 128256,
}
LLAMA3_SCALING = {
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
SIZES = "hidden_size num_hidden_layers num_attention_heads num_key_value_heads intermediate_size"


def published(base: dict[str, Any], sizes: tuple[int, ...], **rest: Any) -> dict[str, Any]:
    return base | dict(zip(SIZES.split(), sizes, strict=True)) | rest


def qwen2(sizes: tuple[int, ...], vocab: int, positions: int, **rest: Any) -> dict[str, Any]:
    tied = {"tie_word_embeddings": vocab == 151936}
    return published(
        QWEN2 | tied, sizes, vocab_size=vocab, max_position_embeddings=positions, **rest
    )


def llama(sizes: tuple[int, ...], factor: float, **rest: Any) -> dict[str, Any]:
    return published(LLAMA3, sizes, rope_scaling=LLAMA3_SCALING | {"factor": factor}, **rest)


HALF, ONE_HALF, THREE = (
    (896, 24, 14, 2, 4864),
    (1536, 28, 12, 2, 8960),
    (2048, 36, 16, 2, 11008),
)
SEVEN, FOURTEEN = (3584, 28, 28, 4, 18944), (5120, 48, 40, 8, 13824)
MATH = {"rope_theta": 10000, "sliding_window": 4096}
PUBLISHED = {
    "qwen2_5_0_5b": qwen2(HALF, 151936, 32768),
    "qwen2_5_1_5b": qwen2(ONE_HALF, 151936, 131072),
    "qwen2_5_3b": qwen2(THREE, 151936, 32768),
    "qwen2_5_7b": qwen2(SEVEN, 152064, 131072),
    "qwen2_5_14b": qwen2(FOURTEEN, 152064, 131072, rms_norm_eps=1e-5),
    "qwen2_5_coder_0_5b": qwen2(HALF, 151936, 32768),
    "qwen2_5_coder_1_5b": qwen2(ONE_HALF, 151936, 32768),
    "qwen2_5_coder_3b": qwen2(THREE, 151936, 32768),
    "qwen2_5_coder_7b": qwen2(SEVEN, 152064, 32768),
    "qwen2_5_coder_14b": qwen2(FOURTEEN, 152064, 32768, rms_norm_eps=1e-5),
    "qwen2_5_math_1_5b": qwen2(ONE_HALF, 151936, 4096, **MATH),
    "qwen2_5_math_7b": qwen2(SEVEN, 152064, 4096, **MATH),
    "qwen3_4b": published(QWEN3, (2560, 36, 32, 8, 9728), tie_word_embeddings=True),
    "qwen3_8b": published(QWEN3, (4096, 36, 32, 8, 12288), tie_word_embeddings=False),
    "qwen3_14b": published(QWEN3, (5120, 40, 40, 8, 17408), tie_word_embeddings=False),
    "llama3_1_8b": llama((4096, 32, 32, 8, 14336), 8.0, tie_word_embeddings=False),
    "llama3_2_1b": llama((2048, 16, 32, 8, 8192), 32.0, head_dim=64, tie_word_embeddings=True),
    "llama3_2_3b": llama((3072, 28, 24, 8, 8192), 32.0, head_dim=128, tie_word_embeddings=True),
}
"""Keys of the published config.json files that shape a model; Qwen3's are those of the base."""
BILLIONS = {
    "qwen2_5_0_5b": 0.494,
    "qwen2_5_1_5b": 1.544,
    "qwen2_5_math_1_5b": 1.544,
    "qwen2_5_math_7b": 7.616,
    "llama3_2_1b": 1.236,
    "llama3_2_3b": 3.213,
}


def written(folder: Path, row: object) -> Path:
    (folder / "config.json").write_text(json.dumps(row))
    return folder


@pytest.mark.parametrize("name", PUBLISHED)
def test_gin_files_have_the_published_shapes(name: str, tmp_path: Path) -> None:
    read = read_config(written(tmp_path, PUBLISHED[name]))
    gin_config.parse([f"models/{name}.gin"])
    said: ModelConfig = gin_config.build("ModelConfig")
    computed = {"dtype": read.dtype, "remat": read.remat, "unroll": read.unroll}
    assert said.to_json() | computed == read.to_json()
    assert (said.dtype, said.remat) == ("bfloat16", "full")


def test_every_gin_file_is_compared() -> None:
    assert {path.stem for path in GIN.glob("*.gin")} - {"tiny"} == PUBLISHED.keys()


@pytest.mark.parametrize("name", BILLIONS)
def test_published_shapes_have_the_published_size(name: str, tmp_path: Path) -> None:
    count = read_config(written(tmp_path, PUBLISHED[name])).parameter_count()
    assert count / 1e9 == pytest.approx(BILLIONS[name], abs=0.001)


# --- old and new ways to write RoPE ------------------------------------------------------------

SCALING = LLAMA3_SCALING | {"factor": 8.0}


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 7.0, "rope_scaling": SCALING},
        {"rope_theta": 7.0, "rope_scaling": {**SCALING, "rope_type": None, "type": "llama3"}},
        {"rope_parameters": SCALING | {"rope_theta": 7.0}},
        {"rope_parameters": SCALING | {"rope_theta": 7.0}, "rope_theta": None},
        {"rope_parameters": SCALING, "rope_theta": 7.0},
    ],
)
def test_rope_is_read_of_old_and_new_configs(rope: dict[str, Any], tmp_path: Path) -> None:
    row = PUBLISHED["llama3_1_8b"].copy()
    del row["rope_theta"], row["rope_scaling"]
    config = read_config(written(tmp_path, row | rope))
    assert config.rope_theta == 7.0
    assert config.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 8192)


@pytest.mark.parametrize(
    "rope",
    [{"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}}, {"rope_theta": 5}],
)
def test_plain_rope(rope: dict[str, Any], tmp_path: Path) -> None:
    row = PUBLISHED["qwen3_4b"].copy()
    del row["rope_theta"], row["rope_scaling"]
    config = read_config(written(tmp_path, row | rope))
    assert (config.rope_theta, config.rope_scaling) == (5.0, None)


# --- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("qwen3_4b", {"model_type": "qwen3_moe"}, "model_type 'qwen3_moe'"),
        ("qwen3_4b", {"model_type": None}, "model_type None"),
        ("qwen3_4b", {"num_experts": 128}, "mixture of experts"),
        ("llama3_1_8b", {"num_local_experts": 8}, "mixture of experts"),
        ("llama3_1_8b", {"architectures": ["LlamaForSequenceClassification"]}, "architectures"),
        ("llama3_1_8b", {"attention_bias": True}, "attention_bias"),
        ("qwen3_4b", {"attention_bias": True}, "attention_bias"),
        ("llama3_1_8b", {"mlp_bias": True}, "mlp_bias"),
        ("llama3_1_8b", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ("llama3_1_8b", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("llama3_1_8b", {"transformers_weights": "b.safetensors"}, "transformers_weights"),
        ("qwen2_5_7b", {"use_sliding_window": True, "max_window_layers": 20}, "sliding window"),
        ("qwen2_5_7b", {"use_sliding_window": True, "max_window_layers": None}, "sliding window"),
        (
            "qwen2_5_7b",
            {"layer_types": ["full_attention", "sliding_attention"]},
            "layer_types sliding_attention",
        ),
        ("qwen2_5_7b", {"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope type 'yarn'"),
        ("qwen2_5_7b", {"rope_scaling": {"rope_type": "linear", "factor": 2}}, "'linear'"),
        ("qwen2_5_7b", {"rope_parameters": {"rope_type": "dynamic"}}, "'dynamic'"),
        ("qwen2_5_7b", {"rope_scaling": {"type": "mrope", "mrope_section": [1]}}, "mrope"),
        ("qwen2_5_7b", {"rope_scaling": {"mrope_section": [16, 24, 24]}}, "mrope_section"),
        (
            "qwen2_5_7b",
            {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
            "several kinds of layer",
        ),
        ("llama3_1_8b", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        (
            "qwen3_4b",
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}},
            "partial_rotary_factor 0.25",
        ),
        ("qwen2_5_7b", {"hidden_size": None}, "hidden_size is missing"),
        ("qwen2_5_7b", {"num_key_value_heads": None}, "num_key_value_heads is missing"),
        ("qwen2_5_7b", {"num_key_value_heads": 3}, "multiple of kv_heads"),
        ("qwen2_5_7b", {"num_hidden_layers": "28"}, "num_hidden_layers must be a whole number"),
        ("qwen2_5_7b", {"vocab_size": 0}, "vocab_size must be a whole number"),
        ("llama3_1_8b", {"rope_scaling": {"rope_type": "llama3"}}, "factor is missing"),
    ],
)
def test_what_is_not_computed_is_refused(
    name: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        read_config(written(tmp_path, PUBLISHED[name] | change))


@pytest.mark.parametrize(
    "change",
    [
        {"use_sliding_window": True, "max_window_layers": 28},
        {"use_sliding_window": True, "sliding_window": None},
        {"layer_types": ["full_attention"] * 28},
        {"use_sliding_window": True, "layer_types": ["full_attention"] * 28},
        {"partial_rotary_factor": 1.0, "quantization_config": None},
    ],
)
def test_what_changes_nothing_is_not_refused(change: dict[str, Any], tmp_path: Path) -> None:
    plain = read_config(written(tmp_path, PUBLISHED["qwen2_5_7b"]))
    assert read_config(written(tmp_path, PUBLISHED["qwen2_5_7b"] | change)) == plain


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"model_type": "llama"'])
def test_a_broken_config_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: not readable"):
        read_config(tmp_path)


def test_several_refusals_are_one_line(tmp_path: Path) -> None:
    row = PUBLISHED["llama3_1_8b"] | {"mlp_bias": True, "attention_bias": True}
    with pytest.raises(UserError, match="attention_bias in a llama model; mlp_bias"):
        read_config(written(tmp_path, row))


# --- written ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_written_config_is_read_back(name: str, tmp_path: Path) -> None:
    config = read_config(written(tmp_path, PUBLISHED[name]))
    write_config(tmp_path, config, eos_id=3, pad_id=4, dtype="bfloat16")
    assert read_config(tmp_path) == config
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    generation = json.loads((tmp_path / "generation_config.json").read_text())
    assert generation == {"eos_token_id": 3, "pad_token_id": 4}


def test_a_mix_that_transformers_lacks_is_not_written(tmp_path: Path) -> None:
    config = ModelConfig(
        vocab_size=8, d_model=8, layers=1, heads=2, kv_heads=1, head_dim=4, d_ff=8, qkv_bias=True
    )
    with pytest.raises(UserError, match="no counterpart in transformers"):
        config_row(config, dtype="float32", eos_id=1, pad_id=0)
