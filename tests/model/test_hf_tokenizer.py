"""Tokenizers of Hugging Face folders: what ends a text, what is text, what is not there."""

from __future__ import annotations

import ast
import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Fast
from tokenizers import decoders, models, pre_tokenizers, trainers

from azr_jax.errors import UserError
from azr_jax.model import folder
from azr_jax.model.scheduler import Stops
from azr_jax.model.tokenizer import FastTokenizer, SentencePieceTokenizer, load_tokenizer
from azr_jax.policy import EMBEDDED

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ADDED = ("<tool_call>", "</tool_call>", *folder.THINK_TOKENS)
SOURCES = (
    "\n".join(inspect.getsource(m) for m in (ast, inspect, json, shutil)) + '\n\t"é🎉▁\\x00"\r\n'
)


def byte_level() -> Fast:
    """As Qwen's: byte-level BPE, special tokens, then added ones that are none."""
    model = Fast(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=alphabet, special_tokens=[], show_progress=False
    )
    model.train_from_iterator([SOURCES], trainer)
    model.add_special_tokens(list(SPECIAL))
    model.add_tokens(list(ADDED))
    return model


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer of a base model of Qwen3, with a config.json."""
    path = tmp_path_factory.mktemp("qwen")
    model = byte_level()
    model.save(str(path / "tokenizer.json"))
    added = json.loads((path / "tokenizer.json").read_text())["added_tokens"]
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|endoftext|>",
        "pad_token": {"__type": "AddedToken", "content": "<|endoftext|>", "special": True},
        "additional_special_tokens": ["<|im_start|>", "<think>"],
        "added_tokens_decoder": {str(t["id"]): {"content": t["content"]} for t in added},
        "chat_template": "{{ messages }}",
    }
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    (path / "added_tokens.json").write_text(json.dumps({t["content"]: t["id"] for t in added}))
    eos = model.token_to_id("<|endoftext|>")
    (path / "config.json").write_text(json.dumps({"model_type": "qwen3", "eos_token_id": eos}))
    return path


@pytest.fixture
def copy(qwen: Path, tmp_path: Path) -> Path:
    shutil.copytree(qwen, tmp_path, dirs_exist_ok=True)
    return tmp_path


def change(path: Path, **values: Any) -> None:
    row = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(row | values))


# --- text is text ------------------------------------------------------------------------------


@given(st.tuples(st.integers(0, len(SOURCES)), st.integers(0, 300)))
def test_any_python_source_comes_back(place: tuple[int, int]) -> None:
    source = SOURCES[place[0] : sum(place)]
    for tokenizer in (TINY, BYTES):
        ids = tokenizer.encode(source)
        assert tokenizer.decode(ids) == source
        assert all(0 <= i < tokenizer.vocab_size for i in ids)


TINY = load_tokenizer(EMBEDDED)
BYTES = FastTokenizer(byte_level().to_str().encode(), "<|endoftext|>")


@pytest.mark.parametrize("special", SPECIAL)
def test_text_never_becomes_a_special_id(special: str) -> None:
    ids = BYTES.encode(f"a{special}b")
    assert BYTES.decode(ids) == f"a{special}b"
    assert len(ids) > 3
    own = byte_level().token_to_id(special)
    assert own not in ids
    assert BYTES.decode([own]) == ""


def test_nothing_is_added_at_either_end_and_unknown_ids_are_nothing() -> None:
    assert BYTES.encode("") == [] == TINY.encode("")
    assert BYTES.decode([-1, BYTES.vocab_size, 10**6, *BYTES.encode("x")]) == "x"


def test_the_size_counts_holes() -> None:
    """An id that no token has is one that a model may still write."""
    row = json.loads(byte_level().to_str())
    row["model"]["vocab"]["far"] = 999
    tokenizer = FastTokenizer(json.dumps(row).encode(), "<|endoftext|>")
    assert tokenizer.vocab_size == 1000


def test_padding_and_truncation_of_the_file_are_not_applied() -> None:
    model = byte_level()
    model.enable_truncation(max_length=2)
    model.enable_padding(length=50)
    tokenizer = FastTokenizer(model.to_str().encode(), "<|endoftext|>")
    assert tokenizer.decode(tokenizer.encode("def f(x, y)")) == "def f(x, y)"
    assert len(tokenizer.encode("a")) == 1


# --- what ends a text --------------------------------------------------------------------------


def test_every_id_of_the_generation_config_ends_a_completion(copy: Path) -> None:
    model = byte_level()
    ids = [model.token_to_id(t) for t in ("<|im_end|>", "<|endoftext|>")]
    change(copy / "generation_config.json", eos_token_id=ids)
    tokenizer = load_tokenizer(copy)
    assert tokenizer.eos_id == ids[1]  # the tokenizer's own first
    assert sorted(tokenizer.eos_ids) == sorted(ids)
    stops = Stops(tokenizer, ())
    for i in ids:
        assert stops.reason(i) == "eos"
        assert stops.text([*tokenizer.encode("x"), i]) == "x"


def test_the_generation_config_overrules_the_tokenizer(copy: Path) -> None:
    turn_end = byte_level().token_to_id("<|im_end|>")
    change(copy / "generation_config.json", eos_token_id=turn_end)
    assert load_tokenizer(copy).eos_ids == (turn_end,)


def test_ids_are_enough_without_a_name(copy: Path) -> None:
    change(copy / "tokenizer_config.json", eos_token=None, pad_token=None)
    change(copy / "config.json", eos_token_id=5)
    tokenizer = load_tokenizer(copy)
    assert (tokenizer.eos_ids, tokenizer.pad_id) == ((5,), 5)


def test_the_name_is_enough_without_ids(copy: Path) -> None:
    change(copy / "config.json", eos_token_id=None)
    assert load_tokenizer(copy).eos_ids == (byte_level().token_to_id("<|endoftext|>"),)


# --- refused -----------------------------------------------------------------------------------


def test_no_end_of_text_is_refused(copy: Path) -> None:
    change(copy / "tokenizer_config.json", eos_token=None)
    change(copy / "config.json", eos_token_id=None)
    with pytest.raises(UserError, match="no token ends a text"):
        load_tokenizer(copy)


@pytest.mark.parametrize("ids", [[1, 10**6], -5])
def test_an_end_of_text_that_is_no_id_is_refused(copy: Path, ids: object) -> None:
    change(copy / "generation_config.json", eos_token_id=ids)
    with pytest.raises(UserError, match="eos_token_id"):
        load_tokenizer(copy)


def test_a_name_that_is_no_token_is_refused(copy: Path) -> None:
    change(copy / "tokenizer_config.json", eos_token="</s>")
    with pytest.raises(UserError, match="no token '</s>'"):
        load_tokenizer(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "1.0"}'])
def test_a_damaged_tokenizer_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=r"tokenizer\.json: not a tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_tokenizer_config_is_refused(copy: Path, text: str) -> None:
    change(copy / "config.json", model_type="llama")
    (copy / "tokenizer_config.json").write_text(text)
    with pytest.raises(UserError, match=r"tokenizer_config\.json"):
        load_tokenizer(copy)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer\.model and no tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_model_of_another_kind_gives_way_to_tokenizer_json(copy: Path) -> None:
    (copy / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")  # as Llama 3 has it
    assert isinstance(load_tokenizer(copy), FastTokenizer)
    (copy / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="not a SentencePiece model"):
        load_tokenizer(copy)


def test_a_sentencepiece_model_comes_first() -> None:
    assert isinstance(TINY, SentencePieceTokenizer)


# --- files that contradict each other -----------------------------------------------------------


@pytest.fixture
def twins(tmp_path: Path) -> Path:
    """A tokenizer.model and a tokenizer.json that are the same tokenizer."""
    for name, data in folder.tokenizer_files(EMBEDDED).items():
        (tmp_path / name).write_bytes(data)
    assert isinstance(load_tokenizer(tmp_path), SentencePieceTokenizer)
    return tmp_path


def test_a_tokenizer_json_with_other_ids_is_refused(twins: Path) -> None:
    row = json.loads((twins / "tokenizer.json").read_text())
    vocab = row["model"]["vocab"]
    vocab["x"], vocab["y"] = vocab["y"], vocab["x"]
    (twins / "tokenizer.json").write_text(json.dumps(row))
    with pytest.raises(UserError, match=r"disagrees with tokenizer\.model: id \d+ is 'x'"):
        load_tokenizer(twins)


def test_a_tokenizer_json_that_encodes_otherwise_is_refused(twins: Path) -> None:
    normalizer = {"type": "Replace", "pattern": {"String": "x"}, "content": "y"}
    change(twins / "tokenizer.json", normalizer=normalizer)
    with pytest.raises(UserError, match=r"disagrees with tokenizer\.model: they give"):
        load_tokenizer(twins)


def test_a_tokenizer_json_with_more_tokens_is_taken_as_in_transformers(twins: Path) -> None:
    row = json.loads((twins / "tokenizer.json").read_text())
    end = 1 + max(row["model"]["vocab"].values())
    row["added_tokens"].append(row["added_tokens"][0] | {"id": end, "content": "<|im_end|>"})
    (twins / "tokenizer.json").write_text(json.dumps(row))
    change(twins / "tokenizer_config.json", eos_token="<|im_end|>")
    tokenizer = load_tokenizer(twins)
    assert (tokenizer.vocab_size, tokenizer.eos_id) == (end + 1, end)


@pytest.mark.parametrize("token", ["<tool_call>", "<new>"])
@pytest.mark.parametrize("place", ["added_tokens.json", "tokenizer_config.json"])
def test_added_tokens_with_other_ids_elsewhere_are_refused(
    copy: Path, place: str, token: str
) -> None:
    if place == "added_tokens.json":
        change(copy / place, **{token: 321})
    else:
        change(copy / place, added_tokens_decoder={"321": {"content": token}})
    with pytest.raises(UserError) as error:
        load_tokenizer(copy)
    assert f"tokenizer.json: it disagrees with {place}, where id 321 is {token!r}" in str(
        error.value
    )


@pytest.mark.parametrize("tokens", [{"x": {}}, {"3": "<new>"}, [1]])
def test_added_tokens_that_cannot_be_read_are_refused(copy: Path, tokens: object) -> None:
    change(copy / "tokenizer_config.json", added_tokens_decoder=tokens)
    with pytest.raises(UserError, match="added tokens beside it cannot be read"):
        load_tokenizer(copy)


# --- the think tokens of Qwen3's base models ------------------------------------------------------


def test_think_tokens_of_a_qwen3_base_model_are_text(copy: Path) -> None:
    whole = byte_level()
    tokenizer = load_tokenizer(copy)
    first = whole.token_to_id("<think>")
    assert tokenizer.vocab_size == first  # they were the last two: never sampled
    ids = tokenizer.encode("<think>x</think><tool_call>")
    assert tokenizer.decode(ids) == "<think>x</think><tool_call>"
    assert not set(ids) & {whole.token_to_id(token) for token in ADDED}


def test_the_files_carried_along_lack_them_too(copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert folder.has_untrained_think(copy)
    folder.copy_files(copy, out)
    for path in out.glob("*token*.json"):
        assert "think>" not in path.read_text(), path
        assert "<tool_call>" in path.read_text() or "eos_token" in path.read_text()
    assert json.loads((out / "tokenizer_config.json").read_text())["chat_template"]
    assert load_tokenizer(out).encode("<think>") == load_tokenizer(copy).encode("<think>")
    assert not folder.has_untrained_think(out)
    assert folder.tokenizer_files(out) == {p.name: p.read_bytes() for p in out.glob("*token*")}


def test_transformers_reads_the_changed_tokenizer_alike(copy: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    out = tmp_path / "out"
    out.mkdir()
    folder.copy_files(copy, out)
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    text = "<think>return x</think>"
    assert theirs(text)["input_ids"] == load_tokenizer(copy).encode(text)


def with_own_tokens(path: Path) -> dict[str, int]:
    """Adds tokens behind the think tokens, as a user does; returns all added tokens' ids."""
    model = byte_level()
    model.add_tokens(["<mine>"])
    model.add_special_tokens(["<|mine|>"])
    model.save(str(path / "tokenizer.json"))
    added = json.loads((path / "tokenizer.json").read_text())["added_tokens"]
    decoder = {str(token.pop("id")): token for token in added}
    change(path / "tokenizer_config.json", added_tokens_decoder=decoder)
    ids = {t["content"]: model.token_to_id(t["content"]) for t in added}
    (path / "added_tokens.json").write_text(json.dumps(ids))
    return ids


def test_tokens_behind_the_think_tokens_keep_their_ids(copy: Path, tmp_path: Path) -> None:
    before = with_own_tokens(copy)
    out = tmp_path / "out"
    out.mkdir()
    folder.copy_files(copy, out)
    assert not folder.has_untrained_think(out)
    after = Fast.from_file(str(out / "tokenizer.json"))
    kept = {token: i for token, i in before.items() if token not in folder.THINK_TOKENS}
    assert {token: after.token_to_id(token) for token in kept} == kept
    named = json.loads((out / "added_tokens.json").read_text())
    decoder = json.loads((out / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    assert {token: named[token] for token in kept} == kept
    assert {t["content"]: int(i) for i, t in decoder.items()} == named
    for place in (copy, out):
        tokenizer = load_tokenizer(place)
        assert tokenizer.vocab_size == 1 + before["<|mine|>"]
        text = "<think></think><|unused_325|>"
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert not set(tokenizer.encode(text)) & set(before.values())
        assert tokenizer.decode([before[t] for t in folder.THINK_TOKENS]) == ""


def test_transformers_gives_the_tokens_behind_them_the_same_ids(copy: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    before = with_own_tokens(copy)
    out = tmp_path / "out"
    out.mkdir()
    folder.copy_files(copy, out)
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    for token in ("<mine>", "<|mine|>", "<tool_call>"):
        assert theirs(token)["input_ids"] == [before[token]]


@pytest.mark.parametrize("later", [(), ("<mine>", "<|mine|>")])
def test_think_tokens_that_the_vocabulary_holds_too_are_text(
    copy: Path, tmp_path: Path, later: tuple[str, ...]
) -> None:
    """As some writers save a tokenizer; `later` are not in the vocabulary."""
    before = with_own_tokens(copy)
    row = json.loads((copy / "tokenizer.json").read_text())
    row["model"]["vocab"] |= {token: i for token, i in before.items() if token not in later}
    (copy / "tokenizer.json").write_text(json.dumps(row))
    out = tmp_path / "out"
    out.mkdir()
    folder.copy_files(copy, out)
    library = Fast.from_file(str(out / "tokenizer.json"))
    for token, i in before.items():
        assert library.token_to_id(token) == (None if token in folder.THINK_TOKENS else i)
    for place in (copy, out):
        tokenizer = load_tokenizer(place)
        assert not set(tokenizer.encode("<think></think>")) & set(before.values())
        assert tokenizer.decode([before[t] for t in folder.THINK_TOKENS]) == ""
    assert all(folder.tokenizer_files(out)[p.name] == p.read_bytes() for p in out.glob("*token*"))


@pytest.mark.parametrize("gone", [(), ("</tool_call>", "<|im_start|>")])
@pytest.mark.parametrize("order", [1, -1])
def test_added_tokens_keep_the_ids_of_a_file_with_gaps(
    copy: Path, tmp_path: Path, order: int, gone: tuple[str, ...]
) -> None:
    before = with_own_tokens(copy)
    change(copy / "config.json", model_type="qwen2")
    row = json.loads((copy / "tokenizer.json").read_text())
    row["added_tokens"] = [t for t in row["added_tokens"] if t["content"] not in gone][::order]
    (copy / "tokenizer.json").write_text(json.dumps(row))
    out = tmp_path / "out"
    out.mkdir()
    folder.copy_files(copy, out)
    library = Fast.from_file(str(out / "tokenizer.json"))
    for token in before.keys() - set(gone):
        assert library.token_to_id(token) == before[token]
        for data in (copy, out):
            alone = FastTokenizer((data / "tokenizer.json").read_bytes(), token)
            assert alone.eos_id == before[token]


def test_an_added_token_with_two_ids_is_refused(copy: Path) -> None:
    row = json.loads((copy / "tokenizer.json").read_text())
    row["model"]["vocab"]["<tool_call>"] = 5
    (copy / "tokenizer.json").write_text(json.dumps(row))
    with pytest.raises(UserError, match="two ids to '<tool_call>'"):
        load_tokenizer(copy)


@pytest.mark.parametrize("kind", ["chat", "qwen2"])
def test_other_models_keep_their_think_tokens(copy: Path, kind: str) -> None:
    whole = byte_level()
    if kind == "chat":
        change(copy / "generation_config.json", eos_token_id=[whole.token_to_id("<|im_end|>"), 1])
    else:
        change(copy / "config.json", model_type="qwen2")
    tokenizer = load_tokenizer(copy)
    assert tokenizer.encode("<think>") == [whole.token_to_id("<think>")]
    assert folder.tokenizer_files(copy)["tokenizer.json"] == (copy / "tokenizer.json").read_bytes()


# --- where a model is from ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "name", "licence"),
    [
        (None, "here", None),
        ("# no front matter\nlicense: mit\n", "here", None),
        ("---\nlicense: apache-2.0\n---\n", "here", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: qwen-research\n---\n# x\n", "here", "qwen-research"),
        ("---\nlicense: 'llama3.1'\ntags:\n- a\n- license: b\n---", "here", "llama3.1"),
        ('---\nmodel_name: "A b"\n---\n', "A b", None),
        ("---\nlicense: mit\n", "here", None),
    ],
)
def test_origin_is_read_from_the_card(
    card: str | None, name: str, licence: str | None, tmp_path: Path
) -> None:
    place = tmp_path / "here"
    place.mkdir()
    if card is not None:
        (place / "README.md").write_text(card)
    origin = folder.read_origin(place, {"embedding": "bfloat16"})
    assert (origin.name, origin.licence) == (name, licence)
    assert folder.Origin.from_json(json.loads(json.dumps(origin.to_json()))) == origin


def test_a_folder_of_the_hubs_cache_has_its_name_there(tmp_path: Path) -> None:
    place = tmp_path / "models--Qwen--Qwen3-4B-Base" / "snapshots" / "0123"
    place.mkdir(parents=True)
    assert folder.read_origin(place, {}).name == "Qwen/Qwen3-4B-Base"
