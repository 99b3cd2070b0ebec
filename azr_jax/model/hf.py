"""Weights of a Hugging Face folder: which tensor is which parameter, and how it is laid out.

A folder has one [out, in] matrix a layer, we have one array a kind, stacked on `l`, input axis
first. Heads need no permutation: both rotate halves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from azr_jax.errors import UserError
from azr_jax.model.config import ModelConfig
from azr_jax.model.hf_config import read_config, write_config
from azr_jax.model.shards import DTYPES, ShardWriter, Tensor, read_shards
from azr_jax.model.transformer import Params, parameter_shapes

__all__ = [
    "Slot",
    "dtypes_of",
    "open_weights",
    "read_config",
    "read_params",
    "slots",
    "write_config",
]

_EMBEDDING, _FINAL_NORM, _UNEMBEDDING = (
    "model.embed_tokens.weight",
    "model.norm.weight",
    "lm_head.weight",
)
_LAYER_NAMES = {
    "attn_norm": "input_layernorm.weight",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight",
    "v": "self_attn.v_proj.weight",
    "o": "self_attn.o_proj.weight",
    "q_bias": "self_attn.q_proj.bias",
    "k_bias": "self_attn.k_proj.bias",
    "v_bias": "self_attn.v_proj.bias",
    "q_norm": "self_attn.q_norm.weight",
    "k_norm": "self_attn.k_norm.weight",
    "mlp_norm": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
}
_COMPUTED = "rotary_emb.inv_freq"
"""A buffer that old checkpoints carry; it follows from the config."""
_NAMED = 6
"""So many tensors of a kind are named in an error."""


@dataclass(frozen=True)
class Slot:
    """Where a tensor of a folder lives: `key` is a parameter's path, such as `layers/q`.

    `shape` is the tensor's, `ours` the parameter's without its layer axis; `layer` is None for what
    no layer owns.
    """

    key: str
    layer: int | None
    shape: tuple[int, ...]
    ours: tuple[int, ...]

    def to_ours(self, weight: np.ndarray) -> np.ndarray:
        """A tensor [out, in] as a parameter of one layer; a view where that is possible."""
        turned = weight.T if self.layer is not None and weight.ndim == 2 else weight
        return turned.reshape(self.ours)

    def to_theirs(self, weight: np.ndarray) -> np.ndarray:
        """The inverse of `to_ours`."""
        if self.layer is not None and len(self.shape) == 2:
            return weight.reshape(self.shape[::-1]).T
        return weight.reshape(self.shape)


def slots(config: ModelConfig) -> dict[str, Slot]:
    """Every tensor of the folder, in the order of the forward pass."""
    shapes = parameter_shapes(config)
    found = {_EMBEDDING: Slot("embedding", None, shapes["embedding"], shapes["embedding"])}
    for layer in range(config.layers):
        for name, (_, *ours) in shapes["layers"].items():
            if name == "o":
                flat: tuple[int, ...] = (ours[2], ours[0] * ours[1])
            elif name in ("q", "k", "v"):
                flat = (ours[1] * ours[2], ours[0])
            elif name.endswith("_bias"):
                flat = (ours[0] * ours[1],)
            else:
                flat = tuple(reversed(ours))
            theirs = f"model.layers.{layer}.{_LAYER_NAMES[name]}"
            found[theirs] = Slot(f"layers/{name}", layer, flat, tuple(ours))
    found[_FINAL_NORM] = Slot("final_norm", None, shapes["final_norm"], shapes["final_norm"])
    if not config.tied_embeddings:
        shape = shapes["unembedding"]
        found[_UNEMBEDDING] = Slot("unembedding", None, shape, shape)
    return found


def open_weights(directory: Path, config: ModelConfig) -> dict[str, Tensor]:
    """The tensors of a folder, by name, each of them accounted for; none is read but a copy of tied
    embeddings.

    Raises:
      UserError: names the tensors that are missing, superfluous, misshapen or of a dtype that is
        not supported; a shard is missing or damaged.
    """
    found = {n: t for n, t in read_shards(directory).items() if not n.endswith(_COMPUTED)}
    tied_copy = found.pop(_UNEMBEDDING, None) if config.tied_embeddings else None
    expected = slots(config)
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "superfluous": sorted(found.keys() - expected.keys()),
        "misshapen": [
            f"{name} {found[name].shape} instead of {slot.shape}"
            for name, slot in expected.items()
            if name in found and found[name].shape != slot.shape
        ],
        "of an unsupported dtype:": [
            f"{name} {found[name].dtype}"
            for name in expected
            if name in found and found[name].dtype not in DTYPES
        ],
    }
    said = [f"{what} {_listed(names)}" for what, names in problems.items() if names]
    if said:
        raise UserError(f"{directory}: tensors do not fit its config.json: {'; '.join(said)}")
    if tied_copy is not None and not _equal(tied_copy, found[_EMBEDDING]):
        raise UserError(
            f"{directory}: config.json ties the embeddings, but {_UNEMBEDDING} differs from "
            f"{_EMBEDDING}"
        )
    return {name: found[name] for name in expected}


def dtypes_of(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, np.dtype]:
    """Parameter's path -> dtype of its tensors; the widest where layers differ."""
    found: dict[str, np.dtype] = {}
    for name, slot in slots(config).items():
        dtype = DTYPES[tensors[name].dtype]
        old = found.get(slot.key, dtype)
        found[slot.key] = old if old == dtype else np.dtype(np.float32)
    return found


def read_params(directory: Path, config: ModelConfig) -> Params:
    """float32 NumPy parameters from `directory/*.safetensors`.

    Raises:
      UserError: as `open_weights`.
    """
    shapes = parameter_shapes(config)
    layers = {name: np.empty(shape, np.float32) for name, shape in shapes["layers"].items()}
    params: Params = {"layers": layers}
    table = slots(config)
    for name, tensor in open_weights(directory, config).items():
        slot = table[name]
        if slot.layer is None:
            params[slot.key] = tensor.read().astype(np.float32)
        else:
            layers[slot.key.removeprefix("layers/")][slot.layer] = slot.to_ours(tensor.read())
    return params


def write_params(directory: Path, params: Params, config: ModelConfig) -> None:
    """`directory/model.safetensors`, float32, with the names that transformers expects."""
    table = slots(config)
    layout = {name: (np.dtype(np.float32), slot.shape) for name, slot in table.items()}
    (directory / "model.safetensors").unlink(missing_ok=True)
    with ShardWriter(directory, layout) as writer:
        for name, slot in table.items():
            weight = _leaf(params, slot.key)
            writer.write(
                name,
                slot.to_theirs(np.asarray(weight if slot.layer is None else weight[slot.layer])),
            )


def _leaf(params: Params, key: str) -> np.ndarray:
    room, _, name = key.rpartition("/")
    leaf: np.ndarray = (params[room] if room else params)[name]
    return leaf


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _equal(a: Tensor, b: Tensor) -> bool:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    pairs = zip(a.pieces(), b.pieces(), strict=True)
    return all((x.view(np.uint8) == y.view(np.uint8)).all() for (_, x), (_, y) in pairs)
