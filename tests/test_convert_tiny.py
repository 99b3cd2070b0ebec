"""The embedded model, imported and exported: transformers loads it with no code of ours, and
computes and writes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from azr_jax.convert import export_model, import_model
from azr_jax.evals.harness import load_tasks
from azr_jax.model.sampler import Prompt, Sampler, SamplerConfig
from azr_jax.model.sharding import MeshConfig, make_mesh
from azr_jax.model.transformer import Params, Transformer
from azr_jax.policy import EMBEDDED, load_policy
from azr_jax.selfplay.tasks import solve_prompt


def one_device() -> Any:
    return make_mesh(MeshConfig(), jax.devices()[:1])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model, imported and exported."""
    place = tmp_path_factory.mktemp("tiny")
    import_model(EMBEDDED, place / "imported")
    export_model(str(place / "imported"), place / "exported")
    return place / "exported"


def prompts() -> list[str]:
    """Fifty held-out tasks of every type."""
    tasks = load_tasks(EMBEDDED.parents[1] / "evals" / "tiny" / "dev.jsonl")
    return [solve_prompt("compact", t.task_type, t.task) for t in tasks[:: len(tasks) // 50][:50]]


def test_the_tiny_model_says_where_it_is_from(exported: Path) -> None:
    card = (exported / "README.md").read_text()
    assert "license: apache-2.0" in card and "azr_jax tiny" in card


def test_transformers_computes_the_same_ids_and_logits(exported: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(exported)
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    policy = load_policy(str(exported), one_device())
    for text in prompts():
        assert tokenizer(text)["input_ids"] == policy.tokenizer.encode(text)
    ids = policy.tokenizer.encode(prompts()[0])
    with torch.no_grad():
        wanted = theirs(torch.tensor([ids])).logits[0, -1].numpy()

    @jax.jit
    def last_logits(params: Params, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
        apply = Transformer(policy.model.config).apply
        hidden, _ = apply({"params": params}, tokens, lengths, method="prefill")
        return apply({"params": params}, hidden, method="unembed")

    ours = last_logits(policy.params, jnp.array([ids]), jnp.array([len(ids)]))[0]
    assert np.abs(np.asarray(ours) - wanted).max() <= 5e-5


def test_greedy_text_is_that_of_transformers(exported: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(exported)
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported, padding_side="left")
    texts = prompts()
    assert len(texts) == 50
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        ids = theirs.generate(**inputs, do_sample=False, max_new_tokens=48)
    new = ids[:, inputs["input_ids"].shape[1] :]
    wanted = tokenizer.batch_decode(new, skip_special_tokens=True)
    policy = load_policy(str(exported), one_device())
    rows = [tuple(policy.tokenizer.encode(text)) for text in texts]
    config = SamplerConfig(
        slots=50,
        max_prompt_tokens=max(map(len, rows)),
        max_new_tokens=48,
        stop_strings=(),
        prompt_sizes=1,
        cache_sizes=1,
        slot_sizes=1,
    )
    sampler = Sampler(policy.model, config, policy.mesh, policy.tokenizer, seed=0)
    requests = [Prompt(row, stream=(i,)) for i, row in enumerate(rows)]
    done = {c.prompt: c for c in sampler.stream(policy.params, requests, temperature=0.0)}
    assert [done[i].text for i in range(50)] == wanted
    assert len(set(wanted)) > 25
