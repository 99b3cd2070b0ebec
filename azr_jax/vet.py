"""Is the model in a directory a fit base for self-play? What `azr pretrain` ends with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from azr_jax import config
from azr_jax.evals.base import Check, check_base
from azr_jax.model.sampler import Completion, Prompt, Sampler
from azr_jax.model.sharding import make_mesh
from azr_jax.policy import load_policy
from azr_jax.selfplay import parse
from azr_jax.selfplay.play import SelfPlay
from sandbox import Sandbox


def vet(directory: Path) -> list[Check]:
    """Measure the base by the game and the sampler that the parsed gin describes; print a table."""
    mesh = make_mesh(config.build("MeshConfig"))
    policy = load_policy(str(directory), mesh, config.build("ModelConfig"))
    sampler = Sampler(
        policy.model,
        config.build("SamplerConfig"),
        mesh,
        policy.tokenizer,
        seed=0,
        is_complete=parse.well_formed,
    )
    encode = policy.tokenizer.encode

    def sample(prompts: Sequence[Prompt], temperature: float) -> Iterator[Completion]:
        return sampler.stream(policy.params, prompts, temperature=temperature)

    with Sandbox(limits=config.build("Limits")) as box:
        play = SelfPlay(
            config.build("PlayConfig"),
            config.build("RewardConfig"),
            box,
            lambda prompt: len(encode(prompt)),
            seed=0,
        )
        checks = check_base(play, sample, encode)
    table = Table(title=Text(f"Check of the base in {directory}"))
    for heading in ("", "measured", "wanted", ""):
        table.add_column(heading, justify="left" if heading == "" else "right")
    for check in checks:
        wanted = f"{check.low:.0%} to {check.high:.0%}"
        verdict = "[green]ok[/]" if check.passed else "[red]missed[/]"
        table.add_row(check.name, f"{check.value:.1%}", wanted, verdict)
    Console().print(table)
    return checks
