"""The tiny model's SentencePiece tokenizer, and its Hugging Face twin with the same ids.

Every piece is written down here: control ids, prompt tags, the words of the tiny programs, the
printable characters, and one piece a byte for everything else. No merges: a digit is a token, so
that arithmetic is the same wherever it stands.
"""

from __future__ import annotations

import json
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from azr_jax.selfplay.prompts.compact import TAGS

PAD, EOS, BOS, UNK = "<|pad|>", "<|eos|>", "<|bos|>", "<|unk|>"
WORDS = (
    *("def f(", "):", "\n ", "\n", "\t", "return ", "\n return ", "\n    return "),
    *(" for ", " in ", " if ", " else ", "for i in ", "range(", "list("),
    *(", ", "sum(", "len(", "max(", "min(", "abs(", "sorted(", ".count(", ".append("),
    *("[::-1]", "[1:]", "[:-1]", "[0]", "[-1]", "//", "==", "True", "False", "None"),
    *("int", "list", "str", "dict", " to ", " step", " steps", "Hello world"),
)
CHARACTERS = "".join(chr(c) for c in range(32, 127))


def build_sentencepiece() -> bytes:
    """The serialized model, written piece by piece: there is nothing to train.

    Spaces are not escaped as U+2581, so that a program which holds that character keeps it.
    """
    proto = sentencepiece_model_pb2.ModelProto()
    kinds = proto.SentencePiece
    table = [(PAD, kinds.CONTROL), (EOS, kinds.CONTROL), (BOS, kinds.CONTROL), (UNK, kinds.UNKNOWN)]
    table += [(w, kinds.USER_DEFINED) for w in (*TAGS, *WORDS)]
    table += [(c, kinds.NORMAL) for c in CHARACTERS]
    table += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
    for piece, kind in table:
        proto.pieces.add(piece=piece, score=0.0, type=kind)
    spec = proto.trainer_spec
    spec.model_type = spec.CHAR
    spec.vocab_size = len(table)
    spec.byte_fallback = True
    spec.pad_id, spec.eos_id, spec.bos_id, spec.unk_id = range(4)
    spec.pad_piece, spec.eos_piece, spec.bos_piece, spec.unk_piece = PAD, EOS, BOS, UNK
    normal = proto.normalizer_spec
    normal.name = "identity"
    normal.add_dummy_prefix = normal.remove_extra_whitespaces = normal.escape_whitespaces = False
    serialized: bytes = proto.SerializeToString(deterministic=True)
    return serialized


def fast_twin(model: bytes) -> dict[str, object]:
    """`tokenizer.json` with the ids of the SentencePiece model.

    Equal on every text that does not spell out a control piece such as `<|eos|>`, which
    the Hugging Face side reads as that piece.
    """
    sp = sentencepiece.SentencePieceProcessor(model_proto=model)
    vocab = {sp.id_to_piece(i): i for i in range(sp.vocab_size())}
    control = [PAD, EOS, BOS, UNK]
    added = [_added(vocab[c], c, special=True) for c in control]
    added += [_added(vocab[w], w, special=False) for w in (*TAGS, *WORDS)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(added, key=lambda a: int(str(a["id"]))),
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": UNK,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [],
        },
    }


def write_tokenizer(directory: Path) -> None:
    """Write tokenizer.model, tokenizer.json and tokenizer_config.json into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    model = build_sentencepiece()
    (directory / "tokenizer.model").write_bytes(model)
    twin = json.dumps(fast_twin(model), ensure_ascii=False, indent=1)
    (directory / "tokenizer.json").write_text(twin, encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": EOS,
        "bos_token": BOS,
        "pad_token": PAD,
        "unk_token": UNK,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=1))


def _added(id: int, content: str, *, special: bool) -> dict[str, object]:
    return {
        "id": id,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }
