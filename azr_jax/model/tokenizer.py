"""SentencePiece models and Hugging Face fast tokenizers behind one small interface."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from azr_jax.errors import UserError


class Tokenizer(Protocol):
    """Text to ids and back. Nothing is added at either end: special ids are explicit."""

    @property
    def vocab_size(self) -> int:
        """Number of ids the tokenizer knows; a model's embedding may be larger."""
        ...

    @property
    def eos_id(self) -> int: ...

    @property
    def pad_id(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; special and unknown ids decode to nothing."""
        ...


class SentencePieceTokenizer:
    """A `tokenizer.model` file."""

    def __init__(self, path: Path) -> None:
        import sentencepiece

        self._model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.vocab_size: int = self._model.vocab_size()
        self.eos_id: int = self._model.eos_id()
        self.pad_id: int = self._model.pad_id() if self._model.pad_id() >= 0 else self.eos_id

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._model.encode(text, add_bos=False, add_eos=False)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._model.decode([int(i) for i in ids if 0 <= i < self.vocab_size])
        return text


class FastTokenizer:
    """A `tokenizer.json` file of the `tokenizers` library; eos and pad come from beside it."""

    def __init__(self, path: Path, eos_token: str, pad_token: str | None = None) -> None:
        import tokenizers

        self._model = tokenizers.Tokenizer.from_file(str(path))
        self.vocab_size: int = self._model.get_vocab_size(with_added_tokens=True)
        self.eos_id = self._id(eos_token)
        self.pad_id = self._id(pad_token) if pad_token else self.eos_id

    def _id(self, token: str) -> int:
        found = self._model.token_to_id(token)
        if found is None:
            raise UserError(f"tokenizer.json has no token {token!r}, which its config names")
        return int(found)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._model.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._model.decode(
            [int(i) for i in ids if 0 <= i < self.vocab_size], skip_special_tokens=True
        )
        return text


def load_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer of a model directory: `tokenizer.model`, else `tokenizer.json`.

    Raises:
      UserError: when the directory holds neither, or names no end-of-text token.
    """
    sentencepiece_file = directory / "tokenizer.model"
    if sentencepiece_file.is_file():
        return SentencePieceTokenizer(sentencepiece_file)
    fast_file = directory / "tokenizer.json"
    if not fast_file.is_file():
        raise UserError(f"{directory}: no tokenizer.model and no tokenizer.json")
    names = _special_names(directory)
    if names.get("eos_token") is None:
        raise UserError(f"{directory}/tokenizer_config.json: it must name the eos_token")
    return FastTokenizer(fast_file, str(names["eos_token"]), names.get("pad_token"))


def _special_names(directory: Path) -> dict[str, str | None]:
    import json

    path = directory / "tokenizer_config.json"
    if not path.is_file():
        return {}
    row = json.loads(path.read_text())
    names: dict[str, str | None] = {}
    for key in ("eos_token", "pad_token"):
        value = row.get(key)
        names[key] = value["content"] if isinstance(value, dict) else value
    return names
