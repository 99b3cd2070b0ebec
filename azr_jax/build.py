"""From parsed gin to a `Run` whose parts all stand: every refusal comes before any long work."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from azr_jax import config as gin_config
from azr_jax import storage
from azr_jax.errors import UserError
from azr_jax.evals.heldout import EvalConfig
from azr_jax.hosts.group import Hosts
from azr_jax.learn.checkpoint import Checkpoints, describe
from azr_jax.learn.optimizer import OptimizerConfig, make_optimizer
from azr_jax.learn.update import LossConfig, make_update
from azr_jax.model.config import ModelConfig
from azr_jax.model.sampler import Sampler, SamplerConfig
from azr_jax.model.sharding import make_mesh, require_heads
from azr_jax.policy import Policy, keep_tokenizer, load_policy
from azr_jax.report.progress import Progress
from azr_jax.report.summary import read_summary
from azr_jax.run import Run
from azr_jax.run_config import RunConfig
from azr_jax.selfplay import parse, seeds
from azr_jax.selfplay.play import PlayConfig, SelfPlay
from azr_jax.selfplay.rewards import RewardConfig
from azr_jax.signals import Interrupted, Stopper
from sandbox import Limits, Sandbox, SandboxUnavailable

MAY_CHANGE = (
    *("RUN_DIR", "TOTAL_STEPS", "run_dir", "total_steps"),
    *("save_every", "keep", "keep_every", "samples_every", "max_infra_share", "stall_s"),
    "max_bad_steps",
)
"""A resumed run may be moved, be told to go on for longer, and keep more or less of itself."""

FRESH_CONFIG = "config.tmp"
"""Left alone in a directory, it is of a run that was killed as it began."""


@contextlib.contextmanager
def open_run(hosts: Hosts | None = None) -> Iterator[Run]:
    """Everything that the parsed gin describes. `hosts`: all processes of the run; none: this one.

    Raises:
      UserError: a value that cannot be, a missing checkpoint, a run directory of another
        configuration, a sandbox that this host cannot give.
    """
    config: RunConfig = gin_config.build("RunConfig")
    play: PlayConfig = gin_config.build("PlayConfig")
    rewards: RewardConfig = gin_config.build("RewardConfig")
    sampling: SamplerConfig = gin_config.build("SamplerConfig")
    evaluation: EvalConfig = gin_config.build("EvalConfig")
    optimization: OptimizerConfig = gin_config.build("OptimizerConfig")
    loss: LossConfig = gin_config.build("LossConfig")
    limits: Limits = gin_config.build("Limits")
    model: ModelConfig = gin_config.build("ModelConfig")
    mesh_config = gin_config.build("MeshConfig")
    text = gin_config.operative_text()
    hosts = hosts or Hosts()
    hosts.require_same(_all_bindings(text), "comparing the configuration")
    hosts.stall_after(config.stall_s)
    with hosts.together("looking into the run directory"):
        directory = storage.locate(config.run_dir)
        storage.array_place(directory)
        _require_same_config(directory, text)
        _require_lengths(config, play, sampling, model)
        _require_learnable(play, sampling)
        read_summary(directory)  # a damaged one is not found at the end of the run
        if storage.read(directory / "config.gin") is None:  # a run that goes on has its seeds
            _require_seeds(config)
        mesh = make_mesh(mesh_config)
    checkpoints = Checkpoints(directory / "checkpoints", config.keep, config.keep_every)
    resumes = hosts.from_first(lambda: bool(checkpoints.steps()), "looking for checkpoints")
    policy = load_policy(config.init_checkpoint, mesh, model, with_params=not resumes)
    require_heads(mesh_config, mesh, policy.model.config.heads, policy.model.config.kv_heads)
    tokenizer = policy.tokenizer
    optimizer = make_optimizer(optimization, config.total_steps)
    sampler = Sampler(
        policy.model, sampling, mesh, tokenizer, config.seed, is_complete=parse.well_formed
    )
    updater = make_update(
        policy.model,
        optimizer,
        loss,
        mesh,
        temperature=config.temperature,
        valid_ids=tokenizer.vocab_size,
        micro_rows=config.micro_rows,
    )
    console = Console(quiet=not hosts.first)
    stopper = Stopper() if hosts.count == 1 else Stopper(lambda: hosts.stopping)
    hosts.asked = lambda: stopper.asked
    with contextlib.ExitStack() as stack:
        with hosts.together("starting the sandbox"):
            box = stack.enter_context(_sandbox(limits, config.sandbox_level))
        game = SelfPlay(
            play, rewards, box, lambda prompt: len(tokenizer.encode(prompt)), config.seed, hosts
        )
        hosts.from_first(lambda: _begin(directory, text, policy), "writing the run directory")
        with hosts.together("looking for what process 0 has written"):
            _require_shared(directory, text)
        run = Run(
            config=config,
            eval=evaluation,
            policy=policy,
            game=game,
            sampler=sampler,
            optimizer=optimizer,
            updater=updater,
            checkpoints=stack.enter_context(checkpoints),
            meta=describe(policy.model.config, gin_config=text, sandbox_level=str(box.level)),
            progress=stack.enter_context(
                Progress(f"azr {directory}", config.total_steps, console=console)
            ),
            console=console,
            hosts=hosts,
            stopper=stopper,
        )
        stack.enter_context(_saved_on_signal(run))
        yield run


def _sandbox(limits: Limits, level: int) -> Sandbox:
    try:
        return Sandbox(limits=limits, level=level)
    except SandboxUnavailable as error:
        raise UserError(str(error)) from error


def _require_same_config(directory: Path, text: str) -> None:
    """A run directory goes on with the configuration that it was made with, or not at all."""
    path = directory / "config.gin"
    kept = storage.read(path)
    if kept is None:
        if any(name != FRESH_CONFIG for name in storage.names(directory)):
            raise UserError(f"{directory} is not empty and is no run directory; name another")
        return
    kept_bindings, new = (_bindings(t) for t in (kept.decode(), text))
    # What a newer version can be told beside is at its default in an older one.
    added = {k: gin_config.default_text(k) for k in new.keys() - kept_bindings.keys()}
    old = added | kept_bindings
    changed = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
    if changed:
        name = changed[0]
        raise UserError(
            f"{directory} is a run with another configuration: {name} was {old.get(name)}, is now "
            f"{new.get(name)}{f' ({len(changed)} differ)' if len(changed) > 1 else ''}; "
            "name another --run_dir, or give the old values"
        )


def _require_shared(directory: Path, text: str) -> None:
    """Each process writes its part of a checkpoint: all must see one directory."""
    if storage.read(directory / "config.gin") != text.encode("utf-8", "backslashreplace"):
        raise UserError(
            f"the run directory {directory} is not the one that process 0 writes to: name one that "
            "all hosts share, such as gs://BUCKET/NAME"
        )


def _begin(directory: Path, text: str, policy: Policy) -> None:
    """The first files of a run, each whole or not at all: a torn configuration is another one."""
    try:
        storage.write(directory / "config.gin", text)
        keep_tokenizer(policy, directory)
    except OSError as error:
        raise UserError(f"cannot write the run directory {directory}: {error}") from error


def _bindings(text: str) -> dict[str, str]:
    """name -> value of gin's operative text, of what must not change."""
    every = _all_bindings(text)
    return {k: value for k, value in every.items() if k.rpartition(".")[2] not in MAY_CHANGE}


def _all_bindings(text: str) -> dict[str, str]:
    joined = re.sub(r"\\\n\s*|(?<=[\[({,])\n\s*", "", text)
    return dict(re.findall(r"^([\w./]+) = (.*)$", joined, flags=re.MULTILINE))


def _require_seeds(config: RunConfig) -> None:
    """Seed files that are there and can be read; they are run much later."""
    for name in config.seed_files:
        if not seeds.load_seeds(Path(name)):
            raise UserError(f"SEED_FILES: {name}: no seed in it")


def _require_lengths(
    config: RunConfig, play: PlayConfig, sampling: SamplerConfig, model: ModelConfig
) -> None:
    """Prompts, completions, packed rows and the model's positions must fit each other."""
    if play.max_prompt_tokens > sampling.max_prompt_tokens:
        raise UserError(
            f"PlayConfig.max_prompt_tokens ({play.max_prompt_tokens}) exceeds "
            f"SamplerConfig.max_prompt_tokens ({sampling.max_prompt_tokens})"
        )
    sampling.require_positions(model)
    longest = play.max_prompt_tokens + sampling.max_new_tokens
    if longest > max(config.row_tokens):
        raise UserError(
            f"the longest prompt and completion ({longest} tokens) do not fit a row of "
            f"RunConfig.row_tokens {config.row_tokens}"
        )


def _require_learnable(play: PlayConfig, sampling: SamplerConfig) -> None:
    """What may be sampled for a look, but not learnt from."""
    if sampling.top_p < 1 or sampling.top_k > 0:
        narrowed = "top_p" if sampling.top_p < 1 else "top_k"
        raise UserError(
            f"SamplerConfig.{narrowed} = {getattr(sampling, narrowed)} narrows what is drawn, not "
            "the log-probs that the update compares with: it would learn from another policy than "
            "the one that sampled; train with top_p = 1.0 and top_k = 0"
        )
    if play.batch_size < 2:
        raise UserError(
            f"PlayConfig.batch_size = {play.batch_size}: a group of one completion is its own mean "
            "and its advantage always 0; train with 2 or more"
        )


@contextlib.contextmanager
def _saved_on_signal(run: Run) -> Iterator[None]:
    """A signal ends the run with what is complete saved, and a line that says what."""
    with run.stopper.listening(run.progress.note, run.where_it_goes_on):
        try:
            yield
        except Interrupted:
            raise Interrupted(run.save_complete()) from None
