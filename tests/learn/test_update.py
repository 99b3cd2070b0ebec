"""The update: right gradients, however the batch is packed, cut and spread."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

from azr_jax.learn.advantages import trr_plus_plus
from azr_jax.learn.batching import Sample, pack
from azr_jax.learn.optimizer import OptimizerConfig, decays, learning_rate_schedule, make_optimizer
from azr_jax.learn.state import (
    TrainState,
    init_state,
    parameter_shardings,
    state_of_params,
)
from azr_jax.learn.update import (
    LossConfig,
    Update,
    accumulate,
    data_shards,
    make_supervised_update,
    make_update,
    microbatch_normaliser,
    policy_micro_loss,
    summary,
    supervised_micro_loss,
    token_normaliser,
)
from azr_jax.model.attention import Layout
from azr_jax.model.config import ModelConfig
from azr_jax.model.sharding import MeshConfig, make_mesh
from azr_jax.model.transformer import Transformer, parameter_axes

CONFIG = ModelConfig(
    vocab_size=40, d_model=16, layers=2, heads=4, kv_heads=2, head_dim=8, d_ff=32, unroll=1
)
MODEL = Transformer(CONFIG)
AXES = parameter_axes(CONFIG)
VALID = 37
TEMPERATURE = 0.9
LOSS = LossConfig(
    policy=(1.0, 0.5, 1.0, 2.0, 1.0, 1.0), clip_high=0.28, dual_clip=3.0, entropy=0.01
)
# An epsilon above the noise: Adam's first step divides a gradient by its own size, and would turn
# rounding of a vanishing gradient into a full step of either sign.
OPTIMIZER = make_optimizer(OptimizerConfig(learning_rate=1e-3, eps=1e-4), total_steps=10)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """24 samples of 8 prompts in six groups, advantages from rewards, one of them masked."""
    rng = np.random.default_rng(0)
    prompts = [tuple(rng.integers(1, VALID, n).tolist()) for n in (1, 2, 3, 5, 8, 8, 9, 4)]
    completions = [tuple(rng.integers(1, VALID, n).tolist()) for n in rng.integers(1, 9, 24)]
    rewards = [*rng.choice([-1.0, 0.0, 0.5, 1.0], 23).tolist(), None]
    groups = [index % 6 for index in range(24)]
    advantages, counted = trr_plus_plus(rewards, groups, [len(c) for c in completions])
    return [
        Sample(
            prompts[index // 3],
            completion,
            tuple((-3.6 + 0.3 * rng.normal(size=len(completion))).tolist()),
            float(advantages[index]),
            groups[index],
            weight=float(counted[index]),
        )
        for index, completion in enumerate(completions)
    ]


@pytest.fixture(scope="module")
def params() -> Any:
    """Larger than at initialisation, so that the log-probs are not all alike."""
    one = make_mesh(MeshConfig(), jax.devices()[:1])
    fresh = init_state(MODEL, OPTIMIZER, one, seed=0).params
    return jax.tree.map(lambda x: np.asarray(x) * 3, fresh)


@cache
def gradient_function(config: LossConfig | None) -> Any:
    """Jitted `accumulate` of the policy loss, or of the supervised one for None."""
    normaliser = token_normaliser
    if config is None:
        loss = supervised_micro_loss(MODEL, valid_ids=VALID, chunk=64)
    else:
        loss = policy_micro_loss(MODEL, config, temperature=TEMPERATURE, valid_ids=VALID, chunk=64)
        if config.aggregation == "microbatch":
            normaliser = microbatch_normaliser
    return jax.jit(lambda p, b: accumulate(loss, normaliser, p, b, AXES))


def gradients(
    params: Any, batch: Any, micro_rows: int, config: LossConfig | None = LOSS
) -> tuple[float, Any, Any]:
    rows, time = batch.shape
    cut = jax.tree.map(lambda x: x.reshape(rows // micro_rows, micro_rows, time), batch)
    value, grads, tally = jax.device_get(gradient_function(config)(params, cut))
    return float(value), grads, tally


def relative(a: Any, b: Any) -> float:
    """Largest difference of any leaf, in units of that leaf's largest entry."""
    errors = jax.tree.map(lambda x, y: np.abs(x - y).max() / (np.abs(y).max() + 1e-30), a, b)
    return float(max(jax.tree.leaves(errors)))


@jax.jit
def logits_of(params: Any, ids: Any, lengths: Any) -> Any:
    """[1, t, v] of one sequence, right-padded: no packing, no chunks."""
    hidden = MODEL.apply({"params": params}, ids, Layout.of_lengths(lengths, ids.shape[1]))
    return MODEL.apply({"params": params}, hidden, method="unembed")


def test_loss_of_a_batch_against_numpy_from_the_logits(params: Any, samples: list[Sample]) -> None:
    """Rewards -> advantages -> packed rows -> logits -> loss, against one sample at a time."""
    value, _, tally = gradients(params, pack(samples, 24, multiple=8), 1)
    total, tokens, entropies = 0.0, 0, np.zeros(6)
    config = {name: np.asarray(row, np.float64) for name, row in vars(LOSS.coefficients()).items()}
    for sample in samples:
        if not sample.weight:
            continue
        path = sample.prompt + sample.completion[:-1]
        ids = np.zeros((1, 24), np.int32)
        ids[0, : len(path)] = path
        logits = np.asarray(logits_of(params, ids, np.array([len(path)])), np.float64)
        z = logits[0, len(sample.prompt) - 1 : len(path), :VALID] / TEMPERATURE
        logp = z - z.max(-1, keepdims=True)
        logp -= np.log(np.exp(logp).sum(-1, keepdims=True))
        entropy = -(np.exp(logp) * logp).sum(-1)
        c = {name: row[sample.group] for name, row in config.items()}
        gap = logp[np.arange(len(sample.completion)), sample.completion] - sample.behaviour_logp
        ratio, a = np.exp(gap), sample.advantage
        pg = np.maximum(-a * ratio, -a * np.clip(ratio, 1 - c["clip_low"], 1 + c["clip_high"]))
        pg = np.minimum(pg, -a * c["dual_clip"]) if a < 0 else pg
        total += (c["policy"] * pg - c["entropy"] * entropy).sum()
        tokens += len(gap)
        entropies[sample.group] += entropy.sum()
    assert value == pytest.approx(total / tokens, rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(tally.sums["entropy"], entropies, rtol=1e-5)


def test_packed_gradient_equals_unpacked(params: Any, samples: list[Sample]) -> None:
    """Shared prefixes and full rows against one sample a row."""
    alone = [pack([s], 24) for s in samples if s.weight]
    alone.append(pack([], 24))
    unpacked = jax.tree.map(lambda *rows: np.concatenate(rows), *alone)
    packed = pack(samples, 24, multiple=8)
    assert packed.shape[0] < unpacked.shape[0] / 2
    expected, got = gradients(params, unpacked, 8), gradients(params, packed, 8)
    assert got[0] == pytest.approx(expected[0], rel=1e-5)
    assert relative(got[1], expected[1]) < 1e-5


def test_micro_batch_size_does_not_matter(params: Any, samples: list[Sample]) -> None:
    batch = pack(samples, 24, multiple=8)
    value, whole, tally = gradients(params, batch, 8)
    for micro_rows in (1, 2, 4):
        other, grads, others = gradients(params, batch, micro_rows)
        assert other == pytest.approx(value, rel=1e-6)
        assert relative(grads, whole) < 1e-6
        assert relative(others, tally) < 1e-6


def test_mean_of_micro_batch_means_is_a_switch(params: Any, samples: list[Sample]) -> None:
    """The original's paper branch: every micro-batch counts alike, however few tokens it has."""
    batch = pack(samples, 24, multiple=8)
    value, _, _ = gradients(params, batch, 4, LossConfig(aggregation="microbatch"))
    means = []
    for start in range(0, batch.shape[0], 4):
        piece = jax.tree.map(lambda x, start=start: x[start : start + 4], batch)
        if piece.mask.any():
            means.append(gradients(params, piece, 4, LossConfig())[0])
    assert len(means) > 1
    assert value == pytest.approx(np.mean(means), rel=1e-5)


def test_empty_rows_change_nothing(params: Any, samples: list[Sample]) -> None:
    full, padded = (pack(samples, 24, multiple=8, rows=rows) for rows in (1, 20))
    assert padded.shape[0] > full.shape[0]
    a, b = gradients(params, full, 1), gradients(params, padded, 1)
    assert a[0] == b[0]
    assert relative(a[1], b[1]) == 0.0


def test_supervised_loss_is_mean_negative_log_likelihood(
    params: Any, samples: list[Sample]
) -> None:
    value, grads, tally = gradients(params, pack(samples, 24), 1, None)
    sample_tokens = sum(len(s.completion) for s in samples if s.weight)
    assert tally.sums["tokens"] == sample_tokens
    bare = [
        Sample(s.prompt, s.completion, (0.0,) * len(s.completion), weight=s.weight) for s in samples
    ]
    again, same, _ = gradients(params, pack(bare, 24), 1, None)
    assert (value, relative(same, grads)) == (again, 0.0)
    assert 2.5 < value < 5


def updated(
    params: Any, samples: list[Sample], axes: tuple[int, int, int]
) -> tuple[TrainState, dict[str, np.ndarray], Update]:
    mesh = make_mesh(MeshConfig(*axes), jax.devices()[: int(np.prod(axes))])
    state = state_of_params(MODEL, OPTIMIZER, mesh, params)
    update = make_update(
        MODEL,
        OPTIMIZER,
        LOSS,
        mesh,
        temperature=TEMPERATURE,
        valid_ids=VALID,
        micro_rows=8 // data_shards(mesh),
    )
    state, metrics = update(state, pack(samples, 24, rows=16, multiple=update.row_multiple))
    return state, summary(metrics), update


def test_the_same_update_on_every_mesh(params: Any, samples: list[Sample]) -> None:
    """One device, and three shapes of eight: parameters within 1e-5."""
    one, metrics, _ = updated(params, samples, (1, 1, 1))
    assert relative(jax.device_get(one.params), params) > 1e-4  # it did learn
    for axes in ((8, 1, 1), (2, 4, 1), (2, 2, 2)):
        many, others, _ = updated(params, samples, axes)
        assert relative(jax.device_get(many.params), jax.device_get(one.params)) < 1e-5
        assert others["grad_norm"] == pytest.approx(metrics["grad_norm"], rel=1e-5)
        assert many.params["layers"]["q"].sharding.is_equivalent_to(
            parameter_shardings(MODEL, many.params["embedding"].sharding.mesh)["layers"]["q"], 4
        )


@pytest.fixture(scope="module")
def supervised() -> Update:
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-2, weight_decay=0.0), 10)
    return make_supervised_update(MODEL, optimizer, mesh, valid_ids=VALID, micro_rows=4)


@pytest.fixture
def state(params: Any) -> TrainState:
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-2, weight_decay=0.0), 10)
    return state_of_params(MODEL, optimizer, mesh, jax.tree.map(np.array, params))


def test_it_learns_and_compiles_once(
    supervised: Update, state: TrainState, samples: list[Sample]
) -> None:
    losses = []
    for kept in range(24, 14, -1):  # fewer samples, fewer rows, the same shape
        batch = pack(samples[:kept], 24, rows=16, multiple=supervised.row_multiple)
        state, metrics = supervised(state, batch)
        losses.append(float(summary(metrics)["loss"]))
    assert losses[-1] < 0.8 * losses[0]
    assert int(state.step) == 10
    assert int(state.skipped) == 0
    assert supervised.compiled == 1


def test_compiled_ahead_it_takes_batches_packed_in_another_way(
    params: Any, samples: list[Sample]
) -> None:
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    optimizer = make_optimizer(OptimizerConfig(), 10)
    update = make_supervised_update(MODEL, optimizer, mesh, valid_ids=VALID, micro_rows=4)
    update.compile(24, 24)
    losses = []
    for shared in (True, False):
        batch = pack(samples, 24, rows=24, multiple=update.row_multiple, share_prompts=shared)
        state = state_of_params(MODEL, optimizer, mesh, jax.tree.map(np.array, params))
        losses.append(float(update(state, batch)[1]["loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("what", ["not finite", "no tokens"])
def test_a_hopeless_step_is_skipped_and_counted(
    supervised: Update, state: TrainState, samples: list[Sample], what: str
) -> None:
    batch = pack(samples if what == "not finite" else [], 24, rows=16, multiple=4)
    if what == "not finite":
        batch.mask[0, np.flatnonzero(batch.mask[0])[0]] = np.inf
    before = jax.device_get((state.params, state.opt_state))
    state, metrics = supervised(state, batch)
    jax.tree.map(
        np.testing.assert_array_equal, jax.device_get((state.params, state.opt_state)), before
    )
    assert (int(state.step), int(state.skipped), int(metrics["skipped"])) == (1, 1, 1)


def test_rows_that_do_not_cut_are_refused(supervised: Update, state: TrainState) -> None:
    with pytest.raises(ValueError, match="row_multiple"):
        supervised(state, pack([], 24, rows=3))


def test_lowers_ahead_of_time(supervised: Update) -> None:
    assert supervised.lower(16, 24).compile().memory_analysis() is not None


def test_weight_decay_spares_norms_and_biases() -> None:
    config = ModelConfig(
        vocab_size=8, d_model=4, layers=1, heads=1, kv_heads=1, head_dim=4, d_ff=4, qkv_bias=True,
        qk_norm=True,
    )  # fmt: skip
    mask = decays(jax.tree.map(lambda _: 0, parameter_axes(config)))
    spared = {name for name, decay in mask["layers"].items() if not decay}
    assert spared == {"attn_norm", "mlp_norm", "q_norm", "k_norm", "q_bias", "k_bias", "v_bias"}
    assert mask["embedding"] and not mask["final_norm"]


def test_learning_rate_schedule() -> None:
    constant = learning_rate_schedule(OptimizerConfig(learning_rate=2.0), 10)
    assert [float(constant(n)) for n in (0, 9)] == [2.0, 2.0]
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=2, decay="linear")
    rate = learning_rate_schedule(config, 6)
    np.testing.assert_allclose([rate(n) for n in range(7)], [0.5, 1, 1, 0.75, 0.5, 0.25, 0])
    late = OptimizerConfig(learning_rate=1.0, decay="linear", decay_steps=2)
    rate = learning_rate_schedule(late, 6)
    np.testing.assert_allclose([rate(n) for n in range(7)], [1, 1, 1, 1, 1, 0.5, 0])


def test_bad_settings_are_named(params: Any) -> None:
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    common: Any = {"valid_ids": VALID, "micro_rows": 1}
    with pytest.raises(ValueError, match="temperature > 0"):
        make_update(MODEL, OPTIMIZER, LOSS, mesh, temperature=0.0, **common)
    with pytest.raises(ValueError, match="aggregation"):
        wrong: Any = "tokens"
        config = LossConfig(aggregation=wrong)
        make_update(MODEL, OPTIMIZER, config, mesh, temperature=1.0, **common)
    with pytest.raises(ValueError, match=r"LossConfig.clip_low needs 1 or 6 numbers, not 2"):
        LossConfig(clip_low=(0.1, 0.2)).coefficients()
    for kl in (0.1, (0.0, 0.0, -0.1, 0.0, 0.0, 0.0), float("nan")):
        with pytest.raises(ValueError, match=r"LossConfig.kl = .* has no gradient"):
            LossConfig(kl=kl)
    assert LossConfig(kl=(0.0,) * 6).coefficients()
    with pytest.raises(ValueError, match="decay"):
        make_optimizer(OptimizerConfig(decay=wrong), 1)


def test_logits_of_the_whole_batch_never_live(params: Any, samples: list[Sample]) -> None:
    """Nothing in the compiled gradient is as large as [tokens, vocabulary]."""
    batch = pack(samples, 64, multiple=4)
    cut = jax.tree.map(lambda x: x[None], batch)
    loss = policy_micro_loss(MODEL, LOSS, temperature=1.0, valid_ids=VALID, chunk=16)
    run = jax.jit(lambda p, b: accumulate(loss, token_normaliser, p, b, AXES))
    shapes = run.lower(params, cut).compile().as_text()
    rows = batch.shape[0]
    assert (
        f"[{rows},4,{CONFIG.vocab_size}]" in shapes or f"[{rows * 4},{CONFIG.vocab_size}]" in shapes
    )
    for whole in (f"[{rows},64,{CONFIG.vocab_size}]", f"[{rows * 64},{CONFIG.vocab_size}]"):
        assert whole not in shapes
    assert f"[16,{rows},4,{CONFIG.vocab_size}]" not in shapes
