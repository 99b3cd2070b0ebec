"""Text is text: no added token is reached by spelling it, in the shapes of every family, and the
text of a completion is what it adds to its prompt.

AZR_REAL_MODELS names a folder of real models' folders; their tokenizers are then tested, too.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Fast

from azr_jax.model.scheduler import Stops
from azr_jax.model.tokenizer import (
    PROMPT_TAGS,
    FastTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    load_tokenizer,
)
from azr_jax.selfplay.prompts import compact, paper
from azr_jax.tiny import tokens

CORPUS = [Path(__file__).read_text(), Path(json.__file__).read_text()]
CHAT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PLAIN = ("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|file_sep|>", "<mine>", "@@END@@")
SMOL = (*CHAT, "<repo_name>", "<reponame>", "<file_sep>", "<gh_stars>", "<empty_output>")
LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|reserved_special_token_0|>")
LLAMA2 = ("<s>", "</s>", "[INST]", "[/INST]", "▁<PRE>", "▁<EOT>")
REAL = sorted(Path(os.environ.get("AZR_REAL_MODELS", "/nowhere")).glob("*/tokenizer.json"))


def _byte_level(first: tuple[str, ...], special: tuple[str, ...], plain: tuple[str, ...]) -> Fast:
    """`first` are in the vocabulary, too, before all pieces, as SmolLM has them."""
    model = Fast(models.BPE())
    split = pre_tokenizers.Split(Regex(r" ?\w+| ?[^\s\w]+|\s+"), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(first),
        show_progress=False,
    )
    model.train_from_iterator(CORPUS, trainer)
    model.add_special_tokens(list(special))
    model.add_tokens([AddedToken(token, normalized=False) for token in plain])
    return model


def _row(model: Fast) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(model.to_str())
    return row


def _llama3() -> dict[str, Any]:
    """A piece that the vocabulary holds whole is taken before any merge."""
    row = _row(_byte_level((), (*LLAMA3, "reserved7"), PLAIN))
    row["model"]["ignore_merges"] = True
    row["model"]["vocab"] |= {token["content"]: token["id"] for token in row["added_tokens"]}
    return row


def _llama2() -> dict[str, Any]:
    """As converted from SentencePiece: a blank put in front, and merges that lead to markers."""
    model = Fast(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    model.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    strip = decoders.Strip(content=" ", left=1, right=0)
    model.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip]
    )
    data = ["<unk>", *LLAMA2[:2], *(f"<0x{byte:02X}>" for byte in range(256))]
    data += [chr(c) for c in range(33, 127)] + ["▁", "</", "s>"]
    row = _row(model)
    row["model"] |= {
        "vocab": {piece: i for i, piece in enumerate(data)},
        "merges": ["< /", "s >", "< s>", "</ s>"],
    }
    row["added_tokens"] = [_added(i, t, special=True) for i, t in enumerate(data[:3])]
    row["added_tokens"] += [
        _added(i, t, special=False) for i, t in enumerate((*LLAMA2[2:], *PLAIN), len(data))
    ]
    return row


def _unigram() -> dict[str, Any]:
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("<mine>", -1.0)]
    pieces += [(f"<0x{byte:02X}>", -9.0) for byte in range(256)]
    pieces += [(chr(c), -5.0) for c in range(32, 127)]
    model = Fast(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    model.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    row = _row(model)
    row["added_tokens"] = [_added(i, pieces[i][0], special=i < 3) for i in range(4)]
    return row


def _added(i: int, content: str, *, special: bool) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": i, "content": content, "special": special} | flags


SHAPES: dict[str, dict[str, Any]] = {
    "qwen": _row(_byte_level((), CHAT, PLAIN)),
    "smollm": _row(_byte_level(SMOL, (), PLAIN)),
    "llama3": _llama3(),
    "llama2": _llama2(),
    "unigram": _unigram(),
}


_CACHE: dict[str, FastTokenizer] = {}


def _fast_of(shape: str) -> FastTokenizer:
    return _CACHE.setdefault(shape, _fast(SHAPES[shape]))


def _fast(row: dict[str, Any]) -> FastTokenizer:
    return FastTokenizer(json.dumps(row).encode(), row["added_tokens"][0]["content"])


def _require_text(tokenizer: Tokenizer, token: str, i: int) -> None:
    for text in (token, f"a{token}b", f" {token}\n", f"{token}{token}", f"x = '{token}'"):
        ids = tokenizer.encode(text)
        assert i not in ids, (text, ids)
        # SentencePiece writes a blank as U+2581, and drops the first one.
        assert tokenizer.decode(ids).strip(" ") == text.replace("▁", " ").strip(" ")


@pytest.mark.parametrize("shape", SHAPES)
def test_no_added_token_is_reached_by_its_text(shape: str) -> None:
    tokenizer = _fast_of(shape)
    for token in SHAPES[shape]["added_tokens"]:
        _require_text(tokenizer, token["content"], token["id"])


@pytest.mark.parametrize("shape", SHAPES)
def test_other_text_has_the_ids_of_the_library(shape: str) -> None:
    library = Fast.from_str(json.dumps(SHAPES[shape]))
    for text in (*CORPUS[1].splitlines(keepends=True)[:60], "é🎉\x00 ", ""):
        assert _fast_of(shape).encode(text) == library.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("shape", SHAPES)
def test_a_token_that_is_not_special_still_decodes_to_its_name(shape: str) -> None:
    for token in SHAPES[shape]["added_tokens"]:
        shown = _fast_of(shape).decode([token["id"]]).strip(" ")
        assert shown == ("" if token["special"] else token["content"].replace("▁", " ").strip())


def test_tokens_that_are_no_more_than_text_stay_ids() -> None:
    """Prompt tags, words, blanks, characters: with no blanks of their neighbours in them."""
    kept = ("<think>", "</think>", "<answer>", "    ", "foo", "[0]", "é€")
    model = _byte_level((), CHAT, ())
    model.add_tokens([AddedToken(t, lstrip=True, rstrip=True, normalized=False) for t in kept])
    tokenizer = FastTokenizer(model.to_str().encode(), CHAT[0])
    for token in kept:
        text = f"\n{token}\n"
        assert model.token_to_id(token) in tokenizer.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_character_that_is_also_a_special_token_stays_text() -> None:
    """As Llama 3's "!", which some use as padding."""
    model = _byte_level((), CHAT, ())
    model.add_special_tokens(["!"])
    tokenizer = FastTokenizer(model.to_str().encode(), CHAT[0], "!")
    assert tokenizer.decode(tokenizer.encode("a != b")) == "a != b"


def test_a_character_that_its_id_does_not_spell_is_no_token() -> None:
    """As the bytes that deepseek-coder adds by the names of a byte-level alphabet."""
    model = _byte_level((), CHAT, ())
    row = _row(model)
    row["model"]["vocab"].pop("õ")
    row["added_tokens"].append(_added(len(model.get_vocab()), "õ", special=False))
    tokenizer = _fast(row)
    assert tokenizer.decode(tokenizer.encode("où õ")) == "où õ"


def _pieces(*markers: str) -> bytes:
    proto = sentencepiece_model_pb2.ModelProto.FromString(tokens.build_sentencepiece())
    for marker in markers:
        proto.pieces.add(piece=marker, score=0.0, type=proto.SentencePiece.USER_DEFINED)
    data: bytes = proto.SerializeToString()
    return data


def test_user_defined_pieces_of_sentencepiece_are_no_markers_either() -> None:
    model = _pieces(*PLAIN, "[INST]", "plain words")
    raw = sentencepiece.SentencePieceProcessor(model_proto=model)
    tokenizer = SentencePieceTokenizer(model)
    for token in (*PLAIN, "[INST]"):
        i = raw.piece_to_id(token)
        assert i in raw.encode(token)
        _require_text(tokenizer, token, i)
        assert tokenizer.decode([i]) == token
    for token in ("plain words", *compact.TAGS, *tokens.WORDS):
        assert tokenizer.encode(token) == [raw.piece_to_id(token)]


def test_the_tags_that_stay_ids_are_those_of_the_prompts() -> None:
    assert {*compact.TAGS, *paper.TAGS} == PROMPT_TAGS


@pytest.mark.skipif(not REAL, reason="AZR_REAL_MODELS names no folder with */tokenizer.json")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.parent.name)
def test_no_added_token_of_a_real_model_is_reached_by_its_text(path: Path) -> None:
    tokenizer = load_tokenizer(path.parent)
    library = Fast.from_file(str(path))
    for token in json.loads(path.read_text())["added_tokens"]:
        _require_text(tokenizer, token["content"], token["id"])
    for text in CORPUS[1:]:
        assert tokenizer.encode(text) == library.encode(text, add_special_tokens=False).ids


# --- what a completion adds -----------------------------------------------------------------------


def _sentencepiece(*words: str) -> SentencePieceTokenizer:
    """As Llama 2's: a blank put in front of a text, and bytes for what no piece spells."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(tokens.build_sentencepiece())
    kinds = proto.SentencePiece
    kept = [p for p in proto.pieces if p.type in (kinds.CONTROL, kinds.UNKNOWN, kinds.BYTE)]
    pieces = [(c, 0.0) for c in ("▁", *tokens.CHARACTERS[1:])]
    pieces += [(word, -float(i)) for i, word in enumerate(words, 1)]
    del proto.pieces[:]
    proto.pieces.extend(kept)
    for piece, score in pieces:
        proto.pieces.add(piece=piece, score=score, type=kinds.NORMAL)
    proto.trainer_spec.model_type = proto.trainer_spec.BPE
    proto.trainer_spec.vocab_size = len(proto.pieces)
    normal = proto.normalizer_spec
    normal.add_dummy_prefix = normal.escape_whitespaces = True
    return SentencePieceTokenizer(proto.SerializeToString())


PREFIXED = _sentencepiece("▁E", "▁EN", "▁END")
COMPLETING: dict[str, Tokenizer] = {
    "sentencepiece": PREFIXED,
    "tiny": SentencePieceTokenizer(tokens.build_sentencepiece()),
    **{shape: _fast_of(shape) for shape in SHAPES},
}


@pytest.mark.parametrize("name", COMPLETING)
@pytest.mark.parametrize("prompt", ["return", "x = [1,", "漢字漢字漢字漢字🎉"])
@pytest.mark.parametrize("added", [" a + 1", "  b", "\n\n c", "a", "é 🎉", " 漢\n", " "])
def test_text_is_what_a_completion_adds(name: str, prompt: str, added: str) -> None:
    """However the whole is cut, the pieces are what the whole is."""
    tokenizer = COMPLETING[name]
    stops, text = Stops(tokenizer, ()), prompt + added
    ids = tokenizer.encode(text)
    befores = [(n, tokenizer.decode(ids[:n])) for n in range(1, len(ids) + 1)]
    cuts = [(n, before) for n, before in befores if before and text.startswith(before)]
    assert cuts
    for n, before in cuts:
        assert before + stops.text(ids[n:]) == text


@pytest.mark.parametrize("word", ["END", " END"])
def test_a_stop_string_is_not_the_id_with_a_blank_in_front(word: str) -> None:
    stops = Stops(PREFIXED, (word,))
    assert stops.strings == (word,)
    assert stops.reason(PREFIXED.encode("END")[0]) is None
    ids = [*PREFIXED.encode("aEND"), *PREFIXED.encode("END"), *PREFIXED.encode("b")]
    end = stops.first_end(ids, 0)
    assert end is not None
    assert stops.text(ids[:end]).endswith(word)
    assert word not in stops.text(ids[: end - 1])


@pytest.mark.parametrize("name", COMPLETING)
@pytest.mark.parametrize("slice_size", [1, 2, 5, 100])
def test_a_stop_string_behind_bytes_and_nothing_is_found(name: str, slice_size: int) -> None:
    """Slices and windows cut characters, and ids that decode to nothing lie within the string."""
    tokenizer = COMPLETING[name]
    stops = Stops(tokenizer, ("é\n\nq",))
    nothing = [tokenizer.vocab_size] * 20
    head = tokenizer.encode("漢字漢字漢字漢字é\n")
    written = [*head, *nothing, *_behind(tokenizer, "\nq")]
    ends = []
    for old in range(0, len(written), slice_size):
        ends.append(stops.first_end(written[: old + slice_size], old))
    assert [end for end in ends if end is not None] == [len(written)]


def _behind(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text in the middle of another."""
    whole, before = tokenizer.encode(f"x{text}"), tokenizer.encode("x")
    assert whole[: len(before)] == before
    return whole[len(before) :]
