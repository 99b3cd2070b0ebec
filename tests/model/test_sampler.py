"""The sampling loop on a tiny model: what it draws, whatever its sizes, slots and mesh."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from azr_jax.model.attention import Layout
from azr_jax.model.config import ModelConfig
from azr_jax.model.loss import token_logprobs
from azr_jax.model.sampler import Completion, Prompt, Sampler, SamplerConfig, shapes
from azr_jax.model.sharding import MeshConfig, make_mesh
from azr_jax.model.transformer import Transformer

VALID = 60
MODEL = Transformer(
    ModelConfig(
        vocab_size=64, d_model=32, layers=2, heads=4, kv_heads=2, head_dim=8, d_ff=48, unroll=2
    )
)
SCANNED = Transformer(
    ModelConfig(
        vocab_size=64, d_model=32, layers=2, heads=4, kv_heads=2, head_dim=8, d_ff=48, unroll=1
    )
)


class Digits:
    """60 ids; 1 is eos, 2 is `</answer>`, any other decodes to `<id>`."""

    vocab_size, eos_id, eos_ids, pad_id = VALID, 1, (1,), 0

    def encode(self, text: str) -> list[int]:
        return [2] if text == "</answer>" else [3] * len(text)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join("</answer>" if i == 2 else f"<{i}>" for i in ids)


@cache
def _params() -> Any:
    params = MODEL.init(
        jax.random.key(0), jnp.zeros((1, 1), jnp.int32), jnp.ones(1, jnp.int32), method="prefill"
    )["params"]
    return jax.tree.map(lambda x: np.asarray(x * 12 if x.ndim > 1 else x), params)


@cache
def _sampler(
    mesh: tuple[int, int, int] = (1, 1, 1), model: Transformer = MODEL, **sizes: Any
) -> Sampler:
    """A sampler with tiny sizes; its programs are compiled once for all tests."""
    sizes = {
        "slots": 8,
        "slice_tokens": 4,
        "max_prompt_tokens": 12,
        "max_new_tokens": 20,
        "prefill_rows": 4,
        "prompt_sizes": 1,
        "cache_sizes": 1,
        "slot_sizes": 1,
        **sizes,
    }
    devices = jax.devices()[: int(np.prod(mesh))]
    return Sampler(
        model, SamplerConfig(**sizes), make_mesh(MeshConfig(*mesh), devices), Digits(), seed=3
    )


def _prompts(count: int = 5, samples: int = 3) -> list[Prompt]:
    rng = np.random.default_rng(7)
    return [
        Prompt(tuple(rng.integers(3, VALID, rng.integers(1, 13)).tolist()), samples, (9, i))
        for i in range(count)
    ]


def _sample(
    sampler: Sampler, prompts: list[Prompt], temperature: float = 1.0, **options: Any
) -> dict[tuple[tuple[int, ...], int], Completion]:
    found = {}
    for completion in sampler.stream(_params(), prompts, temperature=temperature, **options):
        found[prompts[completion.prompt].stream, completion.sample] = completion
    return found


@cache
def _usual() -> dict[tuple[tuple[int, ...], int], Completion]:
    return _sample(_sampler(), _prompts())


def _same(got: dict[Any, Completion], wanted: dict[Any, Completion]) -> None:
    assert got.keys() <= wanted.keys()
    for key, completion in got.items():
        assert completion.tokens == wanted[key].tokens
        assert completion.stop == wanted[key].stop
        np.testing.assert_allclose(completion.logprobs, wanted[key].logprobs, atol=1e-4)


def test_every_sample_comes_once_and_stops_for_a_reason() -> None:
    usual = _usual()
    assert len(usual) == 15
    assert {c.stop for c in usual.values()} == {"eos", "stop_string", "length"}
    for completion in usual.values():
        last, earlier = completion.tokens[-1], completion.tokens[:-1]
        assert not {1, 2} & set(earlier)
        assert {"eos": last == 1, "stop_string": last == 2}.get(
            completion.stop, len(completion.tokens) == 20 and last > 2
        )
        assert max(completion.tokens) < VALID
        assert len(completion.logprobs) == len(completion.tokens)
        assert completion.text == Digits().decode(
            earlier if completion.stop == "eos" else completion.tokens
        )


def test_logprobs_agree_with_a_packed_forward() -> None:
    temperature = 0.7
    prompts = _prompts(2)
    variables = {"params": jax.tree.map(jnp.asarray, _params())}

    @jax.jit
    def forward(tokens: jax.Array) -> jax.Array:
        hidden = MODEL.apply(variables, tokens[None], Layout.of_lengths(jnp.array([32]), 32))[0]
        logp, _ = token_logprobs(
            hidden[:-1],
            tokens[1:],
            lambda x: MODEL.apply(variables, x, method="unembed"),
            temperature=temperature,
            valid_ids=VALID,
        )
        return logp

    for (stream, _), completion in _sample(_sampler(), prompts, temperature).items():
        prompt = prompts[stream[1]].tokens
        tokens = np.zeros(32, np.int32)
        end = len(prompt) + len(completion.tokens)
        tokens[:end] = prompt + completion.tokens
        np.testing.assert_allclose(
            completion.logprobs, forward(tokens)[len(prompt) - 1 : end - 1], atol=1e-4
        )


@pytest.mark.parametrize(
    "sizes",
    [
        {"slots": 3, "slice_tokens": 1},
        {"slots": 16, "slice_tokens": 7, "slot_sizes": 3, "cache_sizes": 2, "prompt_sizes": 2},
        {"model": SCANNED, "slots": 6, "slot_sizes": 2, "cache_sizes": 2},
    ],
    ids=["few slots", "many sizes", "layers scanned"],
)
def test_slots_slices_and_sizes_change_nothing(sizes: dict[str, Any]) -> None:
    _same(_sample(_sampler(**sizes), _prompts()), _usual())


def test_a_prompt_alone_or_reordered_gives_the_same() -> None:
    _same(_sample(_sampler(), _prompts()[3:4]), _usual())
    _same(_sample(_sampler(), _prompts()[::-1]), _usual())


def test_shared_prefill_equals_separate() -> None:
    usual = _usual()
    for sample in range(2):
        single = [Prompt(p.tokens, sample + 1, p.stream) for p in _prompts()]
        got = _sample(_sampler(), single)
        assert len(got) == 5 * (sample + 1)
        _same(got, usual)


@pytest.mark.parametrize(
    ("mesh", "model"),
    [((8, 1, 1), MODEL), ((2, 2, 2), SCANNED), ((1, 4, 2), MODEL)],
    ids=["data", "all axes, layers scanned", "fsdp and tensor"],
)
def test_meshes_of_eight_devices_give_the_same(
    mesh: tuple[int, int, int], model: Transformer
) -> None:
    _same(_sample(_sampler(mesh, model, slot_sizes=2, slots=16), _prompts()), _usual())


def test_greedy_equals_a_naive_loop() -> None:
    prompts = _prompts(3, samples=1)
    for (stream, _), completion in _sample(_sampler(), prompts, 0.0).items():
        tokens = list(prompts[stream[1]].tokens)
        start = len(tokens)
        while len(tokens) - start < 20 and (len(tokens) == start or tokens[-1] not in (1, 2)):
            # A fixed length, so that the loop compiles once; causality hides the padding.
            padded = np.zeros((1, 32), np.int32)
            padded[0, : len(tokens)] = tokens
            tokens.append(int(_naive_logits(padded)[len(tokens) - 1, :VALID].argmax()))
        assert completion.tokens == tuple(tokens[start:])


@jax.jit
def _naive_logits(tokens: jax.Array) -> jax.Array:
    variables = {"params": jax.tree.map(jnp.asarray, _params())}
    hidden = MODEL.apply(variables, tokens, Layout.of_lengths(jnp.array([32]), 32))
    return MODEL.apply(variables, hidden[0], method="unembed")


def test_padded_ids_are_drawn_only_when_allowed() -> None:
    sampler = Sampler(
        MODEL, _sampler().config, make_mesh(MeshConfig(), jax.devices()[:1]), Digits(), 3, 64
    )
    seen = {t for c in _sample(sampler, _prompts(samples=8)).values() for t in c.tokens}
    assert max(seen) >= VALID
    assert max(t for c in _usual().values() for t in c.tokens) < VALID


def test_general_stop_string_ends_a_completion() -> None:
    usual = _usual()
    key, completion = max(usual.items(), key=lambda item: len(item[1].tokens))
    # The middle of two tokens, of which only the second completes it.
    first, second = completion.tokens[5:7]
    sampler = _sampler(stop_strings=(f"{first}><{second}",))
    ended = _sample(sampler, [p for p in _prompts() if p.stream == key[0]])[key]
    assert (ended.stop, ended.tokens) == ("stop_string", completion.tokens[:7])
    assert ended.logprobs == pytest.approx(completion.logprobs[:7], abs=1e-4)


def test_order_of_yield_and_fewer_new_tokens() -> None:
    sampler = _sampler()
    runs = [
        [
            (c.prompt, c.sample, c.tokens)
            for c in sampler.stream(_params(), _prompts(), temperature=1.0, max_new_tokens=5)
        ]
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert max(len(tokens) for _, _, tokens in runs[0]) == 5
    _same_prefix = {(c[0], c[1]): c[2] for c in runs[0]}
    for (stream, sample), completion in _usual().items():
        assert _same_prefix[stream[1], sample] == completion.tokens[:5]


def test_completions_leave_before_the_drain_ends() -> None:
    sampler = _sampler(slots=3, slice_tokens=1)
    stream = sampler.stream(_params(), _prompts(), temperature=1.0)
    before = sampler.counters.steps
    next(stream)
    seen = sampler.counters.steps - before
    list(stream)
    assert seen < (sampler.counters.steps - before) / 2


def test_compiles_everything_ahead() -> None:
    sizes = {"slots": 6, "slot_sizes": 2, "cache_sizes": 2, "prompt_sizes": 2, "prefill_rows": 2}
    sampler = _sampler(**sizes)
    params = jax.device_put(_params(), jax.devices()[0])
    sampler.compile(params)
    assert len(shapes(sampler.config)) == len(set(shapes(sampler.config)))
    for samples in (1, 3):
        list(sampler.stream(params, _prompts(samples=samples), temperature=1.0))
    assert sampler.late_compiles == 0


def test_bfloat16_weights_sample() -> None:
    config = ModelConfig(**{**MODEL.config.to_json(), "dtype": "bfloat16"})
    got = _sample(_sampler(model=Transformer(config)), _prompts(2))
    assert len(got) == 6


def test_bad_input_is_named_before_any_device_work() -> None:
    sampler, params = _sampler(slots=5), object()
    good = Prompt((3, 4), 1, (0,))
    with pytest.raises(ValueError, match=r"prompt 1 has 13 tokens.* 1 to 12"):
        sampler.stream(params, [good, Prompt((3,) * 13, 1, (1,))], temperature=1.0)
    with pytest.raises(ValueError, match="prompt 0 has 0 tokens"):
        sampler.stream(params, [Prompt(())], temperature=1.0)
    with pytest.raises(ValueError, match="prompts 0 and 1 share the stream"):
        sampler.stream(params, [good, good], temperature=1.0)
    with pytest.raises(ValueError, match="temperature"):
        sampler.stream(params, [good], temperature=-1.0)
    with pytest.raises(ValueError, match="max_new_tokens is 21"):
        sampler.stream(params, [good], temperature=1.0, max_new_tokens=21)
    assert list(sampler.stream(params, [], temperature=1.0)) == []
    with pytest.raises(ValueError, match=r"slots \(8\) must be a multiple of 3"):
        _sampler((3, 1, 1))
    with pytest.raises(ValueError, match="top_p"):
        SamplerConfig(top_p=0.0)
