"""What lies beside the weights in a model's folder: tokenizer, configs, licence, where it is from.

All of it is carried along: from a Hugging Face folder into an imported model, into every run that
starts from it, and out again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from azr_jax.model.hf_config import read_row, token_ids

TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
CONFIG_FILES = ("config.json", "generation_config.json")
LICENCE_FILES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
ORIGIN_FILE = "origin.json"

THINK_TOKENS = ("<think>", "</think>")
"""Of Qwen3. Its base models have never seen them: their embeddings are what they started as."""
_TURN_END = "<|im_end|>"
"""What ends a completion of a Qwen model that was trained to chat, and of no base model."""

_SPECIAL = {
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": True,
}


@dataclass(frozen=True)
class Origin:
    """The model that a folder holds, or that a run started from.

    `licence` is None where the folder does not say; `dtypes` is parameter's path -> dtype there.
    """

    name: str
    licence: str | None = None
    dtypes: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"dtypes": dict(self.dtypes)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Origin:
        return cls(str(row["name"]), row.get("licence"), dict(row.get("dtypes", {})))


def read_origin(directory: Path, dtypes: Mapping[str, str]) -> Origin:
    """Of a Hugging Face folder: its name in its README, on the hub or on disk; its licence."""
    front = _front_matter(directory / "README.md")
    licence = front.get("license")
    if licence == "other":
        licence = front.get("license_name", licence)
    return Origin(front.get("model_name") or _name(directory), licence, dtypes)


def copy_files(source: Path, target: Path) -> None:
    """Tokenizer, configs and licence files of a model's folder; the tokenizer as we use it."""
    for name, data in tokenizer_files(source).items():
        (target / name).write_bytes(data)
    licences = (path.name for pattern in LICENCE_FILES for path in source.glob(pattern))
    for name in (*CONFIG_FILES, *licences):
        if (source / name).is_file() and source.resolve() != target.resolve():
            (target / name).write_bytes((source / name).read_bytes())


def tokenizer_files(directory: Path) -> dict[str, bytes]:
    """Name -> content of the tokenizer's files.

    Those of a Qwen3 base model lack the two think tokens: as ordinary text, of several tokens, the
    model can read and write them. No other token's id moves: unused special tokens fill gaps.
    """
    names = [name for name in TOKENIZER_FILES if (directory / name).is_file()]
    files = {name: (directory / name).read_bytes() for name in names}
    old = {name: row for name in names if (row := _row(name, files[name])) is not None}
    new = old
    if has_untrained_think(directory):
        new = {name: _without(row, THINK_TOKENS) for name, row in old.items()}
    fillers = _fillers(new.get("tokenizer.json", {}))
    new = {name: _filled(name, row, fillers) for name, row in new.items()}
    for name in new:
        if new[name] != old[name]:
            files[name] = (json.dumps(new[name], ensure_ascii=False, indent=2) + "\n").encode()
    return files


def has_untrained_think(directory: Path) -> bool:
    """Is it a base model of Qwen3, with that family's tokenizer and think tokens in it?"""
    if not all((directory / name).is_file() for name in ("config.json", "tokenizer.json")):
        return False
    if read_row(directory / "config.json").get("model_type") != "qwen3":
        return False
    ids = {t["content"]: t["id"] for t in _added(read_row(directory / "tokenizer.json"))}
    if _TURN_END not in ids or not any(token in ids for token in THINK_TOKENS):
        return False
    return ids[_TURN_END] not in stop_ids(directory)


def stop_ids(directory: Path) -> tuple[int, ...]:
    """`eos_token_id` of generation_config.json, else of config.json; empty when neither has one."""
    for name in reversed(CONFIG_FILES):
        if (directory / name).is_file():
            ids = token_ids(read_row(directory / name).get("eos_token_id"))
            if ids:
                return ids
    return ()


def _added(tokenizer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for token in tokenizer.get("added_tokens") or ():
        if isinstance(token, dict) and "content" in token and isinstance(token.get("id"), int):
            yield token


def _row(name: str, data: bytes) -> dict[str, Any] | None:
    """None if it is no JSON object: whoever uses the file says that it is damaged."""
    if not name.endswith(".json"):
        return None
    try:
        row = json.loads(data)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _without(row: dict[str, Any], tokens: tuple[str, ...]) -> dict[str, Any]:
    """A tokenizer's JSON file with no added or special token of those."""

    def is_kept(token: Any) -> bool:
        return (token.get("content") if isinstance(token, dict) else token) not in tokens

    new = dict(row)
    for key in ("added_tokens", "additional_special_tokens", "extra_special_tokens"):
        if isinstance(row.get(key), list):
            new[key] = [token for token in row[key] if is_kept(token)]
    if isinstance(row.get("added_tokens_decoder"), dict):
        kept = {i: token for i, token in row["added_tokens_decoder"].items() if is_kept(token)}
        new["added_tokens_decoder"] = kept
    for token in tokens:  # added_tokens.json: token -> id
        new.pop(token, None)
    vocab = _vocab(row)
    if any(token in vocab for token in tokens):  # its size is where the library counts on from
        renamed = {_unused(i) if token in tokens else token: i for token, i in vocab.items()}
        new["model"] = row["model"] | {"vocab": renamed}
    return new


def _vocab(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Token -> id of a tokenizer.json; empty for kinds that have none."""
    model = tokenizer.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    return vocab if isinstance(vocab, dict) else {}


def _unused(i: int) -> str:
    return f"<|unused_{i}|>"


def _fillers(tokenizer: Mapping[str, Any]) -> dict[int, str]:
    """Id -> unused token for each gap between the added tokens of a tokenizer.json, and for each
    that its vocabulary holds.

    The library that everyone reads it with numbers the added tokens by counting, whatever ids the
    file gives them: a gap would move every token behind it.
    """
    vocab = _vocab(tokenizer)
    if not vocab:
        return {}
    listed = {t["id"] for t in _added(tokenizer)}
    taken = {t["id"] for t in _added(tokenizer) if t["content"] not in vocab}
    gaps = set(range(len(vocab), max(taken, default=0))) - taken
    held = {i for token, i in vocab.items() if token == _unused(i)} - listed
    return {i: _unused(i) for i in sorted(gaps | held)}


def _filled(name: str, row: dict[str, Any], fillers: Mapping[int, str]) -> dict[str, Any]:
    """One of a tokenizer's JSON files, with the fillers wherever it lists added tokens."""
    if name == "added_tokens.json":
        return row | {token: i for i, token in fillers.items()}
    new = dict(row)
    tokens: dict[int, dict[str, Any]]
    tokens = {i: {"id": i, "content": token} | _SPECIAL for i, token in fillers.items()}
    if name == "tokenizer.json" and row.get("added_tokens"):
        listed = [*_added(row), *tokens.values()]
        new["added_tokens"] = sorted(listed, key=lambda token: int(token["id"]))
    if fillers and isinstance(row.get("added_tokens_decoder"), dict):
        plain = {str(i): {"content": token} | _SPECIAL for i, token in fillers.items()}
        new["added_tokens_decoder"] = row["added_tokens_decoder"] | plain
    return new


def _name(directory: Path) -> str:
    """`org/model` of a folder in the hub's cache, else the folder's own name."""
    for part in directory.absolute().parts:
        kind, *names = part.split("--")
        if kind == "models" and len(names) > 1:
            return "/".join(names)
    return directory.resolve().name


def _front_matter(path: Path) -> dict[str, str]:
    """`key: value` lines between the two rules that a model card opens with."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    opening, _, rest = text.partition("---\n")
    head, closing, _ = rest.partition("\n---")
    if opening.strip("\ufeff \n") or not closing:
        return {}
    pairs = (line.partition(":") for line in head.splitlines() if line[:1].isalpha())
    return {key.strip(): value.strip().strip("'\"") for key, _, value in pairs}
