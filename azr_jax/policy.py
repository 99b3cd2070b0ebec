"""The model that plays: its parameters and its tokenizer, from wherever they are kept."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path

from jax.sharding import Mesh

import azr_jax
from azr_jax.errors import UserError
from azr_jax.learn import checkpoint
from azr_jax.learn.state import abstract_params
from azr_jax.model import hf
from azr_jax.model.config import ModelConfig
from azr_jax.model.tokenizer import Tokenizer, load_tokenizer
from azr_jax.model.transformer import Params, Transformer

KEPT = "tokenizer"
FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json")
EMBEDDED = Path(azr_jax.__file__).parent / "tiny" / "weights"


@dataclass(frozen=True)
class Policy:
    """`source` is the directory of the tokenizer's files."""

    model: Transformer
    params: Params
    tokenizer: Tokenizer
    mesh: Mesh
    source: Path


def load_policy(name: str, mesh: Mesh, wanted: ModelConfig | None = None) -> Policy:
    """`name`: "tiny" (the embedded model), a Hugging Face folder, or a run or step directory.

    `wanted` says how to compute (dtype, remat, unroll); its shape must be the checkpoint's.

    Raises:
      UserError: nothing is there, or it is not what it should be.
    """
    source = EMBEDDED if name == "tiny" else Path(name)
    if not source.is_dir():
        raise UserError(f"checkpoint {name!r}: no such directory")
    if (source / "config.json").is_file():
        config = _compute_as(hf.read_config(source), wanted, source)
        tokenizer = _tokenizer(source, config)
        return Policy(Transformer(config), hf.read_params(source, config), tokenizer, mesh, source)
    meta = checkpoint.load_meta(source)
    config = _compute_as(ModelConfig.from_json(meta["model"]), wanted, source)
    model = Transformer(config)
    origin = _kept_tokenizer(source)
    params, _ = checkpoint.load_params(source, abstract_params(model, mesh))
    return Policy(model, params, _tokenizer(origin, config), mesh, origin)


def keep_tokenizer(policy: Policy, directory: Path) -> None:
    """Copy the tokenizer beside a run's checkpoints, so that they can be used on their own."""
    folder = directory / KEPT
    folder.mkdir(exist_ok=True)
    for name in FILES:
        if (policy.source / name).is_file():
            shutil.copyfile(policy.source / name, folder / name)


def _kept_tokenizer(source: Path) -> Path:
    """Of a run directory, or of a step directory `RUN/checkpoints/STEP`."""
    for directory in (source, source.resolve().parent.parent):
        if (directory / KEPT).is_dir():
            return directory / KEPT
    raise UserError(f"{source}: no {KEPT} folder in the run directory of this checkpoint")


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


def _tokenizer(directory: Path, config: ModelConfig) -> Tokenizer:
    tokenizer = load_tokenizer(directory)
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"{directory}: the tokenizer knows {tokenizer.vocab_size} ids, the model's embedding "
            f"holds {config.vocab_size}"
        )
    return tokenizer
