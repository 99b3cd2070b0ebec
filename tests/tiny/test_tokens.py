"""The tokenizer: exact on any text, and the same ids on the Hugging Face side."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_jax.model.tokenizer import FastTokenizer, SentencePieceTokenizer, load_tokenizer
from azr_jax.selfplay.prompts.compact import TAGS
from azr_jax.tiny import tokens

FIXED = [
    "",
    " ",
    "  \n\n\tx  ",
    "\r\n",
    "def f(x):\n    for i in range(3):\n        x += i\n    return x\n",
    "s = 'é漢字🎉 \\u2581 ▁ \x00'",
    "<think</think><answer><input",
    "return  return\n return",
]
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
code = st.lists(st.sampled_from([*TAGS, *tokens.WORDS, *tokens.CHARACTERS, "é"]), max_size=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    tokens.write_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def pair(folder: Path) -> tuple[SentencePieceTokenizer, FastTokenizer]:
    twin = FastTokenizer((folder / "tokenizer.json").read_bytes(), tokens.EOS, tokens.PAD)
    return SentencePieceTokenizer((folder / "tokenizer.model").read_bytes()), twin


@given(st.one_of(text, code.map("".join), st.sampled_from(FIXED)))
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back_and_both_sides_agree(
    pair: tuple[SentencePieceTokenizer, FastTokenizer], text: str
) -> None:
    ours, twin = pair
    ids = ours.encode(text)
    assert ours.decode(ids) == text
    if not any(c in text for c in (tokens.PAD, tokens.EOS, tokens.BOS, tokens.UNK)):
        assert twin.encode(text) == ids
        assert twin.decode(ids) == text


def test_every_tag_is_one_token(pair: tuple[SentencePieceTokenizer, FastTokenizer]) -> None:
    for tag in TAGS:
        assert len(pair[0].encode(tag)) == 1


def test_special_ids_agree_and_decode_to_nothing(
    folder: Path, pair: tuple[SentencePieceTokenizer, FastTokenizer]
) -> None:
    ours, twin = pair
    assert (ours.vocab_size, ours.eos_id, ours.pad_id) == (
        twin.vocab_size,
        twin.eos_id,
        twin.pad_id,
    )
    assert ours.decode([ours.eos_id]) == "" == twin.decode([twin.eos_id])
    assert isinstance(load_tokenizer(folder), SentencePieceTokenizer)


def test_control_pieces_cannot_be_written_as_text(
    pair: tuple[SentencePieceTokenizer, FastTokenizer],
) -> None:
    assert pair[0].eos_id not in pair[0].encode(tokens.EOS)


def test_the_shipped_tokenizer_is_what_the_code_builds(folder: Path) -> None:
    from azr_jax.policy import EMBEDDED

    for name in ("tokenizer.model", "tokenizer.json"):
        assert (EMBEDDED / name).read_bytes() == (folder / name).read_bytes()
