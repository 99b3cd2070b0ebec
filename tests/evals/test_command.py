"""`azr eval` and `azr generate`: results, formats, and one plain line for bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from azr_jax import cli
from azr_jax.evals.benchmark import run_benchmark
from azr_jax.evals.harness import BENCHMARKS, evaluate, load_tasks
from azr_jax.model import hf
from azr_jax.model.config import ModelConfig
from azr_jax.model.sampler import Completion, Prompt
from azr_jax.model.sharding import make_mesh
from azr_jax.model.tokenizer import load_tokenizer
from azr_jax.model.transformer import parameter_shapes
from azr_jax.policy import EMBEDDED
from azr_jax.selfplay.play import PlayConfig, SelfPlay
from azr_jax.selfplay.rewards import RewardConfig
from azr_jax.selfplay.triplet import Triplet
from sandbox import Sandbox

SMALL = [
    "SamplerConfig.slots = 8",
    "SamplerConfig.slice_tokens = 4",
    "SamplerConfig.max_new_tokens = 8",
    "SamplerConfig.prompt_sizes = 1",
    "SamplerConfig.cache_sizes = 1",
    "SamplerConfig.slot_sizes = 1",
]
FLAGS = [flag for binding in SMALL for flag in ("--gin_bindings", binding)]


@pytest.fixture(autouse=True)
def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the eight fake ones: programs compile faster."""
    monkeypatch.setattr(
        "azr_jax.inference.make_mesh", lambda config: make_mesh(config, jax.devices()[:1])
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained model of two layers with the tokenizer of the tiny one; 16 ids are padding."""
    folder = tmp_path_factory.mktemp("model")
    for name in ("tokenizer.model", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(EMBEDDED / name, folder / name)
    tokenizer = load_tokenizer(folder)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size + 16,
        d_model=16,
        layers=2,
        heads=2,
        kv_heads=1,
        head_dim=8,
        d_ff=16,
        max_positions=256,
    )
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(config)
    params = jax.tree.map(rng.standard_normal, shapes, is_leaf=lambda x: isinstance(x, tuple))
    hf.write_config(folder, config, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id)
    hf.write_params(folder, params, config)
    return str(folder)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The single line of a command that ends with exit code 2."""
    try:
        code: object = cli.main([*arguments, *FLAGS])
    except SystemExit as stop:  # argparse's own
        code = stop.code
    assert code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("azr")
    assert captured.err.count("\n") == 1
    return captured.err


# --- eval -------------------------------------------------------------------------------------


def test_eval(checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = BENCHMARKS["tiny-dev"].read_text().splitlines()
    data = tmp_path / "tasks.jsonl"
    data.write_text(f"{lines[0]}\n{lines[-1]}\n")
    command = ["eval", "--checkpoint", checkpoint, "--benchmark", "tiny-dev", "--data", str(data)]
    command += ["--samples_per_problem", "3", "--sandbox_level", "1", *FLAGS]
    assert cli.main(command) == 0
    captured = capsys.readouterr()
    assert "completion 6/6" in captured.err
    row = json.loads(captured.out)
    assert row["benchmark"] == "tiny-dev"
    assert (row["problems"], row["samples_per_problem"], row["temperature"]) == (2, 3, 1.0)
    assert list(row["pass@k"]) == ["1", "2", "3"]
    assert all(0 <= value <= 1 for value in (row["stderr"], *row["pass@k"].values()))
    names = {"deduction", "deduction/level 1", "induction", "induction/level 3"}
    assert set(row["by_category"]) == names
    assert all(cell["problems"] == 1 for cell in row["by_category"].values())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_results_of_a_model_that_knows_half(temperature: float) -> None:
    """Numbers of the result against hand-made completions, right on every other sample."""
    tasks = load_tasks(BENCHMARKS["tiny-dev"])[:4]
    calls: list[tuple[int, float]] = []

    def sample(prompts: Any, temperature: float) -> Any:
        for index, prompt in enumerate(prompts):
            calls.append((prompt.samples, temperature))
            for number in range(prompt.samples):
                task = tasks[index].task
                assert isinstance(task, Triplet)
                text = task.output if number % 2 == 0 else "'wrong'"
                completed = f"</think><answer>{text}</answer>"
                yield Completion(index, number, (), (), "stop_string", completed)

    with Sandbox(level=1) as box:
        play = SelfPlay(PlayConfig(prompt_style="compact"), RewardConfig(), box, len, 0)
        row = run_benchmark(
            "tiny-dev", tasks, play, sample, lambda text: [1], samples=4, temperature=temperature
        )
    greedy = temperature == 0.0
    assert calls == [(1 if greedy else 4, temperature)] * 4  # greedy samples are all alike
    assert row["samples_per_problem"] == 4
    expected = {"1": 1.0, "2": 1.0, "4": 1.0} if greedy else {"1": 0.5, "2": 5 / 6, "4": 1.0}
    assert row["pass@k"] == pytest.approx(expected)
    assert row["by_category"]["deduction"] == {
        "problems": 4,
        "pass@1": expected["1"],
        "stderr": 0.0,
    }


def test_the_prompt_of_an_evaluation_is_that_of_self_play() -> None:
    """Byte for byte: a difference here looks like progress."""
    config = PlayConfig(prompt_style="compact", max_prompt_tokens=10_000, batch_size=1)
    seen: list[tuple[int, ...]] = []

    def sample(prompts: Sequence[Prompt], temperature: float) -> Any:
        seen.extend(prompt.tokens for prompt in prompts)
        return iter(())

    with Sandbox(level=1) as box:
        play = SelfPlay(config, RewardConfig(), box, len, 0)
        for item in load_tasks(BENCHMARKS["tiny-dev"])[::75]:
            given = ([item.task], []) if isinstance(item.task, Triplet) else ([], [item.task])
            state = play.start(*given)
            asked = play.solve_requests(state, 0)
            (prompt,) = {r.prompt for r in asked if r.task_type == item.task_type}
            encode = lambda text: [ord(c) for c in text]  # noqa: E731
            evaluate([item], play, sample, encode, samples=1, temperature=1.0)
            assert "".join(map(chr, seen[-1])) == prompt


BAD_ROWS = [
    ("{", "tasks.jsonl:1"),
    ('{"id": 1, "task_type": "guess", "category": "", "task": {}}', "unknown task type"),
    ('{"id": 1, "task_type": "induction", "category": "", "task": {"program": "", "input": "", '
     '"output": ""}}', "none of induction"),
    ("", "no task in it"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), BAD_ROWS)
def test_eval_refuses_bad_tasks(
    line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "tasks.jsonl"
    data.write_text(line)
    flags = ("--checkpoint", "tiny", "--benchmark", "tiny-dev", "--data", str(data))
    assert message in refused(capsys, "eval", *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--checkpoint", "no/such", "--benchmark", "tiny-dev"), "'no/such': no such directory"),
        (("--checkpoint", "tiny", "--benchmark", "tiny-def"), "tiny-dev, tiny-test"),
        (("--checkpoint", "tiny", "--benchmark", "tiny-dev", "--data", "no/file"), "no/file"),
        (("--checkpoint", "tiny", "--benchmark", "tiny-dev", "--out", "no/file"), "cannot write"),
        (("--checkpoint", "tiny", "--benchmark", "tiny-dev", "--temperature", "-1"), "temperature"),
        (("--checkpoint", "tiny", "--benchmark", "tiny-dev", "--temperature", "nan"), "nan"),
        (("--checkpoint", "tiny", "--benchmark", "tiny-dev", "--samples_per_problem", "0"), "'0'"),
        (("--checkpoint", "tiny", "--benchmark", "tiny-dev", "--gin_file", "no.gin"), "no.gin"),
        (("--benchmark", "tiny-dev"), "--checkpoint"),
    ],
)
def test_eval_refuses(
    flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, "eval", *flags)


def test_eval_refuses_a_folder_without_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--checkpoint", str(tmp_path), "--benchmark", "tiny-dev")
    assert "no checkpoint in" in refused(capsys, "eval", *flags)


# --- generate ---------------------------------------------------------------------------------


def write_prompts(path: Path, *prompts: str) -> Path:
    rows = [{"id": f"n{i}", "prompt": prompt} for i, prompt in enumerate(prompts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_generate(checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = write_prompts(
        tmp_path / "prompts.jsonl", *(f"def f(x):\n return x+{i}" for i in range(12))
    )
    flags = ["--checkpoint", checkpoint, "--prompts", str(prompts), "--max_tokens", "12", *FLAGS]
    out = tmp_path / "out.jsonl"
    assert cli.main(["generate", *flags, "--temperature", "50", "--out", str(out)]) == 0
    assert capsys.readouterr().out == ""
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"n{i}" for i in range(12)]
    tokenizer = load_tokenizer(Path(checkpoint))
    for row in rows:
        assert 1 <= len(row["tokens"]) <= 12
        assert row["stop"] in ("eos", "stop_string", "length")
        if row["stop"] == "length":
            assert len(row["tokens"]) == 12
        if row["stop"] != "eos":
            assert row["completion"] == tokenizer.decode(row["tokens"])
    # Nearly uniform draws: the ids of the padding are among them.
    assert max(max(row["tokens"]) for row in rows) >= tokenizer.vocab_size


def test_no_prompts_make_no_completions(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = write_prompts(tmp_path / "prompts.jsonl")
    assert cli.main(["generate", "--checkpoint", checkpoint, "--prompts", str(prompts)]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", ":2: not a prompt"),
        ("", ":2: not a prompt"),
        ("[]", ":2: not a prompt"),
        ('{"id": "a"}', "'prompt'"),
        ('{"id": "a", "prompt": 3}', ":2: not a prompt"),
        ('{"id": ["a"], "prompt": "x"}', ":2: not a prompt"),
        ('{"id": "a", "prompt": ""}', ":2: the prompt is empty"),
        (json.dumps({"id": "a", "prompt": "x=" * 200}), ":2: a prompt of"),
        ('{"id": "a", "prompt": "\\ud800"}', ":2: not a prompt"),
    ],
)
def test_generate_refuses_bad_prompts(
    checkpoint: str, line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_prompts(tmp_path / "prompts.jsonl", "x")
    path.write_text(path.read_text() + line + "\n")
    flags = ("--checkpoint", checkpoint, "--prompts", str(path))
    assert message in refused(capsys, "generate", *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--checkpoint", "no/such", "--prompts", "x"), "'no/such': no such directory"),
        (("--checkpoint", "tiny", "--prompts", "no/file"), "no/file: no such file"),
        (("--checkpoint", "tiny", "--prompts", "x", "--max_tokens", "0"), "'0'"),
        (("--checkpoint", "tiny", "--prompts", "x", "--out", "no/file"), "cannot write"),
        (("--checkpoint", "tiny"), "--prompts"),
    ],
)
def test_generate_refuses(
    flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, "generate", *flags)
