"""SentencePiece models and Hugging Face fast tokenizers behind one small interface.

Text never becomes an id that is more than its text, however it is spelt, and no special id becomes
text: prompts quote programs that a model wrote. A chat template is carried along with the files,
but nothing applies one.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from azr_jax.errors import UserError
from azr_jax.model.folder import THINK_TOKENS, stop_ids, tokenizer_files

PROMPT_TAGS = {
    *(*THINK_TOKENS, "<answer>", "</answer>", "<propose>", "<program>", "<input>", "<output>"),
    *("<message>", "<deduction>", "<abduction>", "<induction>", "```"),
}
"""What our prompts are built of: a tokenizer that holds one as a token has it for that."""

_UNKNOWN = "\uffff" * 8
"""The unknown token's name in our encoder: of characters that no text has."""

_CLOSING = {"<": ">", "[": "]", "{": "}", "(": ")"}


class Tokenizer(Protocol):
    """Text to ids and back. Nothing is added at either end: special ids are explicit."""

    @property
    def vocab_size(self) -> int:
        """One more than the highest id of the tokenizer; a model's embedding may be larger."""
        ...

    @property
    def eos_id(self) -> int: ...

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """All ids that end a completion, `eos_id` first."""
        ...

    @property
    def pad_id(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; special and unknown ids decode to nothing."""
        ...


class SentencePieceTokenizer:
    """A `tokenizer.model` file."""

    def __init__(self, model: bytes, stops: Sequence[int] = ()) -> None:
        """`model`: the file; `stops`: ids that end a completion (default: the file's own).

        Raises:
          ValueError: it is no SentencePiece model, or no id ends a completion.
        """
        import sentencepiece

        self._model = sentencepiece.SentencePieceProcessor()
        try:
            self._model.LoadFromSerializedProto(model)
            if any(map(_is_marker, self.names().values())):
                self._model.LoadFromSerializedProto(_without_markers(model))
        except RuntimeError as error:
            raise ValueError("not a SentencePiece model") from error
        self.vocab_size: int = self._model.vocab_size()
        self.eos_ids = _stops(self._model.eos_id(), stops, self.vocab_size)
        self.eos_id: int = self.eos_ids[0]
        self.pad_id: int = self._model.pad_id() if self._model.pad_id() >= 0 else self.eos_id

    def names(self) -> dict[int, str]:
        """Id -> piece, of every id."""
        return {i: self._model.id_to_piece(i) for i in range(self._model.vocab_size())}

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._model.encode(text, add_bos=False, add_eos=False)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._model.decode([int(i) for i in ids if 0 <= i < self.vocab_size])
        return text


class FastTokenizer:
    """A `tokenizer.json` file of the `tokenizers` library; eos and pad come from beside it."""

    def __init__(
        self,
        model: bytes,
        eos_token: str | None = None,
        pad_token: str | None = None,
        stops: Sequence[int] = (),
    ) -> None:
        """`model`: the file; `stops`: ids that end a completion (default: that of `eos_token`).

        Raises:
          ValueError: the file cannot be read, gives two ids to a token, has no token of a name, or
            no token ends a text.
        """
        import tokenizers

        try:
            row = _numbered(json.loads(model))
            self._model = tokenizers.Tokenizer.from_str(json.dumps(row))
            kept = {t["content"] for t in row["added_tokens"] if self._is_text(t)}
            self._encoder = tokenizers.Tokenizer.from_str(json.dumps(_text_only(row, kept)))
            added = {token["content"]: token["id"] for token in row["added_tokens"]}
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"not a tokenizer: {error}") from error
        for token, i in added.items():
            if self._model.token_to_id(token) != i:
                raise ValueError(f"it gives two ids to {token!r}, or one to it and another token")
        self._hidden = {
            t["id"] for t in row["added_tokens"] if t["special"] and len(t["content"]) > 1
        }
        # The encoder may number its tokens otherwise, as it lacks some.
        names = {i: name for name, i in self._encoder.get_vocab().items()}
        true = {_UNKNOWN: _unknown(row["model"])}
        self._ids = {i: self._id(true.get(name) or name) for i, name in names.items()}
        self.vocab_size: int = 1 + max(self._model.get_vocab().values(), default=-1)
        own = self._id(eos_token) if eos_token else -1
        self.eos_ids = _stops(own, stops, self.vocab_size)
        self.eos_id: int = self.eos_ids[0]
        self.pad_id: int = self._id(pad_token) if pad_token else self.eos_id

    def _id(self, token: str) -> int:
        found = self._model.token_to_id(token)
        if found is None:
            raise ValueError(f"no token {token!r}, which tokenizer_config.json names")
        return int(found)

    def _is_text(self, token: Mapping[str, Any]) -> bool:
        """Is an added token no more than its text, and comes back from its id?"""
        content = str(token["content"])
        if _is_marker(content) or (token["special"] and len(content) > 1):
            return False
        # Twice, as a decoder may drop the blank in front.
        twice = self._model.decode([token["id"]] * 2, skip_special_tokens=False)
        return twice.endswith(content.replace("▁", " "))

    def names(self) -> dict[int, str]:
        """Id -> token, of every id that has one."""
        return {i: name for name, i in self._model.get_vocab().items()}

    def encode(self, text: str) -> list[int]:
        encoded = self._encoder.encode(text, add_special_tokens=False)
        return [self._ids[i] for i in encoded.ids]

    def decode(self, ids: Sequence[int]) -> str:
        shown = [int(i) for i in ids if 0 <= i < self.vocab_size and i not in self._hidden]
        text: str = self._model.decode(shown, skip_special_tokens=False)
        return text


def _is_marker(token: str) -> bool:
    """Is it a name in brackets, or between two equal signs, such as <|im_end|>, [INST], @@END@@?

    It means something to a model beyond its text; words, blanks and operators do not.
    """
    inner = token.strip(" \t\r\n▁")
    if token in PROMPT_TAGS or len(inner) < 2 or inner[0].isalnum():
        return False
    name = filter(str.isalnum if inner[0] == "<" else str.isalpha, inner)
    return inner[-1] == _CLOSING.get(inner[0], inner[0]) and any(name)


def _without_markers(model: bytes) -> bytes:
    """A SentencePiece model whose markers no text becomes; they still decode to their names."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    for piece in proto.pieces:
        if piece.type == piece.USER_DEFINED and _is_marker(piece.piece):
            piece.type = piece.UNUSED
    serialized: bytes = proto.SerializeToString()
    return serialized


def _text_only(row: Any, kept: Container[str]) -> Any:
    """A tokenizer.json for encoding, with no other added tokens than the `kept`.

    The others are gone from its vocabulary and merges, too: spelt out, no rule leads to them. Only
    single characters stay there, as they may be all that spells them; the unknown token is renamed.
    """
    added = [t for t in row["added_tokens"] if t["content"] in kept]
    gone = {t["content"] for t in row["added_tokens"] if len(t["content"]) > 1}
    gone -= {t["content"] for t in added}
    model = dict(row["model"])
    unknown = _unknown(model)
    pieces = model["vocab"]
    is_list = isinstance(pieces, list)
    pairs = pieces if is_list else list(pieces.items())
    pairs = [
        (_UNKNOWN if piece == unknown else piece, value)
        for piece, value in pairs
        if piece == unknown or piece not in gone
    ]
    model["vocab"] = pairs if is_list else dict(pairs)
    if unknown is not None:
        where = [piece for piece, _ in pairs].index(_UNKNOWN)
        model |= {"unk_id": where} if is_list else {"unk_token": _UNKNOWN}
    if "merges" in model:
        lost = gone | {unknown}
        split = ((m, m.split(" ") if isinstance(m, str) else m) for m in model["merges"])
        model["merges"] = [m for m, (a, b) in split if not lost & {a, b, a + b}]
    # Blanks beside a token are text of their own.
    added = [token | {"special": False, "lstrip": False, "rstrip": False} for token in added]
    none = dict.fromkeys(("post_processor", "padding", "truncation"))
    return row | none | {"added_tokens": added, "model": model}


def _unknown(model: Mapping[str, Any]) -> str | None:
    """The piece that stands for what no other piece spells."""
    name, place = model.get("unk_token"), model.get("unk_id")
    if place is not None:
        name = model["vocab"][place][0]
    return name if place is not None or name in model["vocab"] else None


def _numbered(row: Any) -> Any:
    """A tokenizer.json whose vocabulary holds the added tokens, too, where it can.

    The library numbers those that it does not hold by counting, whatever ids the file gives them.
    """
    vocab = row["model"]["vocab"]
    if not isinstance(vocab, dict):
        return row
    added = {token["content"]: token["id"] for token in row["added_tokens"]}
    return row | {"model": row["model"] | {"vocab": added | vocab}}


def load_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer of a model directory: `tokenizer.json`, as in transformers, or
    `tokenizer.model` where that is all there is, or the two are the same.

    What generation_config.json beside it names as ends of a text ends a completion.

    Raises:
      UserError: when the directory holds neither, one is damaged, two files disagree, or no
        end-of-text token is named.
    """
    files = tokenizer_files(directory)
    stops = stop_ids(directory)
    names = _special_names(directory, files)
    failure = "no tokenizer.model and no tokenizer.json"
    pieces = None
    if "tokenizer.model" in files:
        try:
            pieces = SentencePieceTokenizer(files["tokenizer.model"], stops)
        except ValueError as error:  # other kinds of file go by that name, too
            failure = f"tokenizer.model: {error}"
    if "tokenizer.json" in files:
        if pieces and "eos_token" not in names:
            stops = pieces.eos_ids
        try:
            fast = FastTokenizer(
                files["tokenizer.json"], names.get("eos_token"), names.get("pad_token"), stops
            )
            _require_same_ids(fast, files)
            return pieces if pieces and _is_twin(pieces, fast) else fast
        except ValueError as error:
            failure = f"tokenizer.json: {error}"
    elif pieces:
        return pieces
    raise UserError(f"{directory}: {failure}")


_PROBE = "def f(x):\n    return [x + 1, 'two']  # naïve\n"


def _is_twin(pieces: SentencePieceTokenizer, fast: FastTokenizer) -> bool:
    """Whether tokenizer.json has the ids of tokenizer.model and no more.

    Raises:
      ValueError: it has others.
    """
    ours, theirs = pieces.names(), fast.names()
    said = next((f"id {i} is {n!r} in the one" for i, n in ours.items() if theirs.get(i) != n), "")
    if not said and pieces.encode(_PROBE) != fast.encode(_PROBE):
        said = f"they give {_PROBE!r} different ids"
    if said:
        raise ValueError(
            f"it disagrees with tokenizer.model: {said}; transformers would load tokenizer.json: "
            "remove the one that is out of date"
        )
    return len(ours) == len(theirs)


def _require_same_ids(fast: FastTokenizer, files: Mapping[str, bytes]) -> None:
    """The added tokens that other files list are those of tokenizer.json.

    Raises:
      ValueError: one has another id there, or none; they cannot be read.
    """
    listed: list[tuple[str, int, str]] = []
    try:
        config = json.loads(files.get("tokenizer_config.json", b"{}"))
        for i, token in (config.get("added_tokens_decoder") or {}).items():
            listed.append(("tokenizer_config.json", int(i), token["content"]))
        for token, i in json.loads(files.get("added_tokens.json", b"{}")).items():
            listed.append(("added_tokens.json", i, token))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"the added tokens beside it cannot be read: {error!r}") from error
    names = fast.names()
    for file, i, token in listed:
        if names.get(i) != token:
            raise ValueError(
                f"it disagrees with {file}, where id {i} is {token!r} and not {names.get(i)!r}: "
                "mend the one that is out of date"
            )


def _stops(own: int, stops: Sequence[int], size: int) -> tuple[int, ...]:
    """The ids that end a completion: `stops`, the tokenizer's own first if it is one of them."""
    ids = tuple(stops) or ((own,) if own >= 0 else ())
    if not ids:
        raise ValueError(
            "no token ends a text: generation_config.json or tokenizer_config.json must name one"
        )
    if not all(0 <= i < size for i in ids):
        raise ValueError(f"eos_token_id {list(ids)} is beyond the {size} ids of the tokenizer")
    return tuple(sorted(ids, key=lambda i: i != own))


def _special_names(directory: Path, files: Mapping[str, bytes]) -> dict[str, str]:
    """eos_token and pad_token of tokenizer_config.json, where it has them."""
    path = directory / "tokenizer_config.json"
    try:
        row: Any = json.loads(files.get(path.name, b"{}"))
        values = {key: row.get(key) for key in ("eos_token", "pad_token")}
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path}: not readable: {error}") from error
    names = {k: v.get("content") if isinstance(v, dict) else v for k, v in values.items()}
    return {key: str(name) for key, name in names.items() if name}
