"""A policy that is only applied: what `azr eval` and `azr generate` make of the parsed gin.

Every refusal comes before any long work; progress goes to standard error, as the result may go to
standard output.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from azr_jax import config as gin_config
from azr_jax.errors import UserError
from azr_jax.evals.benchmark import load_benchmark, run_benchmark
from azr_jax.model.sampler import Completion, Prompt, Sampler, SamplerConfig
from azr_jax.model.sharding import make_mesh
from azr_jax.policy import Policy, load_policy
from azr_jax.report.progress import Progress
from azr_jax.selfplay import parse
from azr_jax.selfplay.play import SelfPlay
from azr_jax.selfplay.tasks import solve_prompt
from sandbox import Limits, Sandbox, SandboxUnavailable, jsonl

SEED = 0
"""Of all draws: the same command gives the same completions."""


def eval_command(
    checkpoint: str,
    benchmark: str,
    data: Path | None = None,
    *,
    samples: int,
    temperature: float,
    sandbox_level: int,
    model_from_gin: bool,
) -> dict[str, Any]:
    """Measure a checkpoint on a benchmark: prompts and checks are those of self-play.

    Raises:
      UserError: no such checkpoint, benchmark or file, a line that is no task, a prompt too long
        for the model, a sandbox that this host cannot give.
    """
    tasks = load_benchmark(benchmark, data)
    play_config = gin_config.build("PlayConfig")
    rewards = gin_config.build("RewardConfig")
    limits: Limits = gin_config.build("Limits")
    sampling: SamplerConfig = gin_config.build("SamplerConfig")
    policy = _policy(checkpoint, model_from_gin)
    encode = policy.tokenizer.encode
    texts = [solve_prompt(play_config.prompt_style, t.task_type, t.task) for t in tasks]
    longest = max(len(encode(text)) for text in texts)
    policy.model.config.require_positions(
        longest, sampling.max_new_tokens, f"benchmark {benchmark}"
    )
    # The run's own sizes where they suffice: a run and its evaluation sample alike.
    sampling = replace(sampling, max_prompt_tokens=max(longest, sampling.max_prompt_tokens))
    total = len(tasks) * (samples if temperature else 1)
    try:
        box = Sandbox(limits=limits, level=sandbox_level)
    except SandboxUnavailable as error:
        raise UserError(str(error)) from error
    with box, _progress(f"azr eval {benchmark}", total) as progress:
        sampler = Sampler(
            policy.model,
            sampling,
            policy.mesh,
            policy.tokenizer,
            SEED,
            is_complete=parse.well_formed,
        )
        play = SelfPlay(play_config, rewards, box, lambda prompt: len(encode(prompt)), SEED)

        def sample(prompts: Sequence[Prompt], temperature: float) -> Iterator[Completion]:
            return _stream(policy, sampler, prompts, temperature, progress)

        return run_benchmark(
            benchmark, tasks, play, sample, encode, samples=samples, temperature=temperature
        )


def generate_command(
    checkpoint: str,
    prompts: Path,
    *,
    max_tokens: int | None,
    temperature: float,
    model_from_gin: bool,
) -> list[dict[str, Any]]:
    """One completion a prompt, in order: rows of id, completion, tokens and stop.

    No id is masked: padded embeddings may be sampled, and decode to nothing.

    Raises:
      UserError: no such checkpoint or file, a line that is no prompt, a prompt too long.
    """
    rows = _read_prompts(prompts)
    sampling: SamplerConfig = gin_config.build("SamplerConfig")
    new_tokens = max_tokens or sampling.max_new_tokens
    policy = _policy(checkpoint, model_from_gin)
    requests = []
    for number, (_, text) in enumerate(rows, 1):
        tokens = tuple(policy.tokenizer.encode(text))
        if not tokens:
            raise UserError(f"{prompts}:{number}: the prompt is empty")
        policy.model.config.require_positions(len(tokens), new_tokens, f"{prompts}:{number}")
        requests.append(Prompt(tokens, stream=(number,)))
    if not requests:
        return []
    longest = max(len(request.tokens) for request in requests)
    sampler = Sampler(
        policy.model,
        replace(sampling, max_prompt_tokens=longest, max_new_tokens=new_tokens),
        policy.mesh,
        policy.tokenizer,
        SEED,
        valid_ids=policy.model.config.vocab_size,
    )
    with _progress("azr generate", len(requests)) as progress:
        completions = _stream(policy, sampler, requests, temperature, progress)
        done = {completion.prompt: completion for completion in completions}
    return [
        {"id": name, "completion": c.text, "tokens": list(c.tokens), "stop": c.stop}
        for (name, _), c in zip(rows, (done[i] for i in range(len(rows))), strict=True)
    ]


def _stream(
    policy: Policy,
    sampler: Sampler,
    prompts: Sequence[Prompt],
    temperature: float,
    progress: Progress,
) -> Iterator[Completion]:
    """Completions as they end, counted by the progress, which is told once a second."""
    total = sum(prompt.samples for prompt in prompts)
    told = -math.inf
    stream = sampler.stream(policy.params, prompts, temperature=temperature)
    for count, done in enumerate(stream):
        if time.monotonic() - told > 1.0 or count + 1 == total:
            progress.step({"step": count})
            told = time.monotonic()
        yield done


def _progress(title: str, total: int) -> Progress:
    progress = Progress(title, total, console=Console(stderr=True), unit="completion")
    progress.phase("compiling and sampling")
    return progress


def _policy(checkpoint: str, model_from_gin: bool) -> Policy:
    """The checkpoint, computed as the gin files say where they were given for that."""
    mesh = make_mesh(gin_config.build("MeshConfig"))
    wanted = gin_config.build("ModelConfig") if model_from_gin else None
    return load_policy(checkpoint, mesh, wanted)


def _read_prompts(path: Path) -> list[tuple[str | int, str]]:
    """(id, prompt) of every line."""
    try:
        return jsonl.read(path, "a prompt", _prompt, text=True, skip_blank=False)
    except jsonl.JsonlError as error:
        raise UserError(str(error)) from error


def _prompt(row: Mapping[str, Any]) -> tuple[str | int, str]:
    name, text = row["id"], row["prompt"]
    if not isinstance(name, str | int) or not isinstance(text, str):
        raise TypeError("id is text or a number, prompt text")
    return name, text
