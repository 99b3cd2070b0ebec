"""The model that plays: its parameters and its tokenizer, from wherever they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import azr_jax
from azr_jax.errors import UserError
from azr_jax.learn import checkpoint
from azr_jax.learn.state import abstract_params
from azr_jax.model import hf
from azr_jax.model.config import ModelConfig
from azr_jax.model.tokenizer import Tokenizer, load_tokenizer
from azr_jax.model.transformer import Params, Transformer
from jax.sharding import Mesh

EMBEDDED = Path(azr_jax.__file__).parent / "tiny" / "weights"


@dataclass(frozen=True)
class Policy:
    """`source` is where the tokenizer and the first weights came from."""

    model: Transformer
    params: Params
    tokenizer: Tokenizer
    mesh: Mesh
    source: Path


def load_policy(name: str, mesh: Mesh) -> Policy:
    """`name`: "tiny" (the embedded model), a Hugging Face folder, or a run or step directory.

    Raises:
      UserError: nothing is there, or it is not what it should be.
    """
    source = EMBEDDED if name == "tiny" else Path(name)
    if not source.is_dir():
        raise UserError(f"checkpoint {name!r}: no such directory")
    if (source / "config.json").is_file():
        config = hf.read_config(source)
        tokenizer = _tokenizer(source, config)
        return Policy(Transformer(config), hf.read_params(source, config), tokenizer, mesh, source)
    meta = checkpoint.load_meta(source)
    config = ModelConfig.from_json(meta["model"])
    model = Transformer(config)
    origin = EMBEDDED if meta["tokenizer"] == "tiny" else Path(meta["tokenizer"])
    params, _ = checkpoint.load_params(source, abstract_params(model, mesh))
    return Policy(model, params, _tokenizer(origin, config), mesh, origin)


def _tokenizer(directory: Path, config: ModelConfig) -> Tokenizer:
    tokenizer = load_tokenizer(directory)
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"{directory}: the tokenizer knows {tokenizer.vocab_size} ids, the model's embedding "
            f"holds {config.vocab_size}"
        )
    return tokenizer
