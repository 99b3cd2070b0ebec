"""The model that plays: its parameters and its tokenizer, from wherever they are kept."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, fields, replace
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

import azr_jax
from azr_jax import storage
from azr_jax.errors import UserError
from azr_jax.learn import checkpoint
from azr_jax.learn.state import abstract_params
from azr_jax.model import folder, hf
from azr_jax.model.config import ModelConfig
from azr_jax.model.folder import Origin
from azr_jax.model.hf_config import read_row
from azr_jax.model.tokenizer import Tokenizer, load_tokenizer
from azr_jax.model.transformer import Params, Transformer

KEPT = "tokenizer"
EMBEDDED = Path(azr_jax.__file__).parent / "tiny" / "weights"


@dataclass(frozen=True)
class Policy:
    """`source` is the directory of the tokenizer's files and of the others beside the weights."""

    model: Transformer
    params: Params
    tokenizer: Tokenizer
    mesh: Mesh
    source: Path
    origin: Origin


def load_policy(
    name: str, mesh: Mesh, wanted: ModelConfig | None = None, *, with_params: bool = True
) -> Policy:
    """`name`: "tiny" (the embedded model), a Hugging Face folder, or an imported model, a run
    directory or a step directory.

    `wanted` says how to compute (dtype, remat, unroll); its shape must be the checkpoint's.
    Without params, a run that restores its own does not hold them twice.

    Raises:
      UserError: nothing is there, or it is not what it should be.
    """
    source = resolve(name)
    if is_hugging_face(source):
        config = _compute_as(hf.read_config(source), wanted, source)
        tokenizer = load_fitting_tokenizer(source, config)
        dtypes = hf.dtypes_of(hf.open_weights(source, config), config)
        origin = folder.read_origin(source, {key: str(dtype) for key, dtype in dtypes.items()})
        params = hf.read_params(source, config) if with_params else {}
        return Policy(Transformer(config), params, tokenizer, mesh, source, origin)
    meta = checkpoint.load_meta(source)
    config = _compute_as(ModelConfig.from_json(meta["model"]), wanted, source)
    beside = kept_files(source)
    tokenizer = load_fitting_tokenizer(beside, config)
    model = Transformer(config)
    params = _load_params(source, model, mesh) if with_params else {}
    return Policy(model, params, tokenizer, mesh, beside, read_origin(source))


def resolve(name: str) -> Path:
    """The directory of a checkpoint.

    Raises:
      UserError: there is none.
    """
    source = EMBEDDED if name == "tiny" else storage.locate(name)
    if not storage.is_folder(source):
        raise UserError(f"checkpoint {name!r}: no such directory")
    if storage.is_remote(source) and is_hugging_face(source):
        raise UserError(
            f"checkpoint {name!r} is a Hugging Face folder: copy it to a local disk, or put there "
            "what azr import makes of it"
        )
    return source


def is_hugging_face(source: Path) -> bool:
    """An imported model holds a config.json, too, but arrays instead of safetensors."""
    names = storage.names(source)
    return "config.json" in names and "params" not in names


def keep_tokenizer(policy: Policy, directory: Path) -> None:
    """Copy what lies beside the weights to a run's checkpoints: they can be used on their own."""
    with tempfile.TemporaryDirectory() as place:
        folder.copy_files(policy.source, Path(place))
        for path in Path(place).iterdir():
            storage.write(directory / KEPT / path.name, path.read_bytes())
    origin = json.dumps(policy.origin.to_json(), indent=1) + "\n"
    storage.write(directory / KEPT / folder.ORIGIN_FILE, origin)


def read_origin(source: Path) -> Origin:
    """Where an imported model, or the model that a run started from, is from."""
    path = kept_files(source) / folder.ORIGIN_FILE
    if path.is_file():
        return Origin.from_json(read_row(path))
    return Origin("an unknown model")  # a run of before origins were kept


def kept_files(source: Path) -> Path:
    """Of an imported model, of a run directory, or of a step directory `RUN/checkpoints/STEP`: a
    local folder, a copy where the source lies in a bucket.

    Raises:
      UserError: there are none.
    """
    if _is_imported(source):
        return storage.local_copy(source)
    above = source if storage.is_remote(source) else source.resolve()
    for directory in (source, above.parent.parent):
        if storage.is_folder(directory / KEPT):
            return storage.local_copy(directory / KEPT)
    raise UserError(f"{source}: no {KEPT} folder in the run directory of this checkpoint")


def _is_imported(source: Path) -> bool:
    return {"params", "config.json"} <= set(storage.names(source))


def load_fitting_tokenizer(directory: Path, config: ModelConfig) -> Tokenizer:
    """The tokenizer of a model's folder.

    Raises:
      UserError: there is none, or it has ids that the model has no embedding for.
    """
    tokenizer = load_tokenizer(directory)
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"{directory}: the tokenizer knows {tokenizer.vocab_size} ids, the model's embedding "
            f"holds {config.vocab_size}"
        )
    return tokenizer


def _load_params(source: Path, model: Transformer, mesh: Mesh) -> Params:
    """float32 parameters, each on its place; those of an imported model are stored in its dtype.

    They are read as they are stored, so that their digests can be compared, then converted one by
    one.
    """
    stored = read_origin(source).dtypes if _is_imported(source) else {}
    target = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.ShapeDtypeStruct(
            leaf.shape,
            stored.get(jax.tree_util.keystr(path, simple=True, separator="/"), leaf.dtype),
            sharding=leaf.sharding,
        ),
        abstract_params(model, mesh),
    )
    params, _ = checkpoint.load_params(source, target)
    leaves, tree = jax.tree.flatten(params)
    del params
    for index, leaf in enumerate(leaves):
        leaves[index] = leaf.astype(jnp.float32)
    return jax.tree.unflatten(tree, leaves)


def _compute_as(found: ModelConfig, wanted: ModelConfig | None, source: Path) -> ModelConfig:
    if wanted is None:
        return found
    config = replace(found, dtype=wanted.dtype, remat=wanted.remat, unroll=wanted.unroll)
    for field in fields(ModelConfig):
        here, there = getattr(config, field.name), getattr(wanted, field.name)
        if here != there:
            raise UserError(
                f"{source} has {field.name} = {here}, the configuration says {there}; "
                "include the gin/models file of this checkpoint"
            )
    return config
