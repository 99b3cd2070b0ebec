"""A whole run in its directory: what it leaves there, how it goes on, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from azr_jax import cli
from azr_jax.evals.harness import BENCHMARKS
from azr_jax.hosts.group import Hosts
from azr_jax.learn.state import state_of_params
from azr_jax.model.sampler import Completion, Prompt
from azr_jax.report.metrics import read_rows
from azr_jax.rollout import Rollout
from azr_jax.selfplay.play import Request
from azr_jax.selfplay.tasks import solve_prompt
from azr_jax.selfplay.triplet import (
    TASK_TYPES,
    ZERO_INDUCTION_TASK,
    ZERO_TRIPLET,
    Triplet,
    task_to_json,
)
from azr_jax.train import train, train_command
from sandbox import Job

OpenRun = Callable[..., Any]
TRIPLETS = Path(__file__).resolve().parents[2] / "shared" / "data" / "triplets"
SEED_FILES = [
    "3b_coder_code_f_seed_io.jsonl",
    "3b_coder_seed_io.jsonl",
    "7b_code_f_seed_io.jsonl",
    "7b_seed_io.jsonl",
]
MEASURED = (
    "EvalConfig.test = 'tiny-test'",
    "EvalConfig.dev = 'tiny-dev'",
    "EvalConfig.samples = 2",
    "EvalConfig.dev_samples = 1",
    "EvalConfig.temperatures = (0.5, 1.0)",
)


class Listener:
    """Stands before a sampler and notes what it is asked."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler
        self.heard: list[Prompt] = []

    def stream(self, params: Any, prompts: Sequence[Prompt], **given: Any) -> Iterator[Any]:
        self.heard += prompts
        return self._sampler.stream(params, prompts, **given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)


@dataclass
class Finished:
    directory: Path
    summary: dict[str, Any]
    prompts: list[Prompt]
    encode: Callable[[str], list[int]]


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Benchmarks of three tasks; those of the test are the zero tasks, which play starts from."""
    path = tmp_path_factory.mktemp("benchmarks") / "three.jsonl"
    rows = [
        {
            "id": name,
            "task_type": name,
            "category": "level 1",
            "task": task_to_json(ZERO_INDUCTION_TASK if name == "induction" else ZERO_TRIPLET),
        }
        for name in TASK_TYPES
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        for name in BENCHMARKS:
            patch.setitem(BENCHMARKS, name, path)
        yield


@pytest.fixture(scope="module")
def finished(
    open_small: OpenRun, benchmarks: None, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """Two steps from the zero triplet alone, measured before and after."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    with open_small(directory, *MEASURED, "PlayConfig.seed_target = 0") as run:
        listener = run.sampler = Listener(run.sampler)
        return Finished(directory, train(run), listener.heard, run.policy.tokenizer.encode)


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [n for item in value.values() for n in numbers(item)]
    return [value] if isinstance(value, int | float) else []


# --- what a run leaves -------------------------------------------------------------------------


def test_the_run_directory(finished: Finished) -> None:
    directory = finished.directory
    metrics = list(read_rows(directory / "metrics"))
    assert [row["step"] for row in metrics] == [0, 1]
    assert all(row["tokens_per_s"] > 0 and row["grad_norm"] >= 0 for row in metrics)
    samples = list(read_rows(directory / "samples"))
    assert {row["step"] for row in samples} == {0, 1}
    assert {(row["role"], row["task_type"]) for row in samples} == {
        (role, name) for role in ("propose", "solve") for name in TASK_TYPES
    }
    saved = {int(path.name) for path in (directory / "checkpoints").iterdir()}
    assert saved == {0, 2}
    assert "RunConfig.total_steps" in (directory / "config.gin").read_text()


def test_the_summary_has_the_fixed_form(finished: Finished) -> None:
    summary = json.loads((finished.directory / "summary.json").read_text())
    assert summary == finished.summary
    assert summary.keys() == {
        "run",
        "steps",
        "seconds",
        "device",
        "sandbox_level",
        "valid_proposals",
        "heldout",
    }
    assert (summary["run"], summary["steps"]) == (str(finished.directory), 2)
    assert summary["valid_proposals"].keys() == {"first_step", "mean"}
    held = summary["heldout"]
    assert held.keys() == {"before", "after", "gain"}
    for when in ("before", "after"):
        assert held[when].keys() == {"all", *TASK_TYPES}
        for cell in held[when].values():
            assert cell.keys() == {"sampled", "greedy", "best_temperature"}
            assert cell["sampled"].keys() == cell["greedy"].keys() == {"mean", "stderr"}
            assert cell["best_temperature"].keys() == {"temperature", "mean", "stderr"}
            assert all(0 <= number <= 1 for number in numbers(cell))
    for name, cell in held["gain"].items():
        assert cell.keys() == {"sampled", "greedy", "at_best_temperature"}
        assert all(part.keys() == {"mean", "stderr_paired"} for part in cell.values())
        before, after = (held[when][name]["sampled"]["mean"] for when in ("before", "after"))
        assert cell["sampled"]["mean"] == pytest.approx(after - before)


def test_the_solver_trains_on_the_very_prompts_that_it_is_measured_on(finished: Finished) -> None:
    """The same tokens for the same task: once this differed, and it looked like progress."""
    evaluated = {prompt.tokens for prompt in finished.prompts if len(prompt.stream) == 3}
    played = {prompt.tokens for prompt in finished.prompts if len(prompt.stream) == 4}
    assert len(evaluated) == 3
    assert evaluated <= played
    for name in TASK_TYPES:
        task = ZERO_INDUCTION_TASK if name == "induction" else ZERO_TRIPLET
        assert tuple(finished.encode(solve_prompt("compact", name, task))) in evaluated


# --- a run that ended --------------------------------------------------------------------------


def test_a_finished_run_shows_its_summary_and_says_how_to_start_anew(
    finished: Finished,
    open_small: OpenRun,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = {p: p.stat().st_mtime_ns for p in (finished.directory / "checkpoints").rglob("*")}
    flags = (*MEASURED, "PlayConfig.seed_target = 0")
    monkeypatch.setattr("azr_jax.train.open_run", lambda _: open_small(finished.directory, *flags))
    train_command(Hosts())
    printed = " ".join(capsys.readouterr().out.split())
    assert "Held-out accuracy before and after 2 steps" in printed
    assert "To start anew, remove" in printed
    assert str(finished.directory) in printed.replace(" ", "")
    assert json.loads((finished.directory / "summary.json").read_text()) == finished.summary
    assert [row["step"] for row in read_rows(finished.directory / "metrics")] == [0, 1]
    assert files == {
        p: p.stat().st_mtime_ns for p in (finished.directory / "checkpoints").rglob("*")
    }


def test_a_finished_run_goes_on_with_more_steps(
    finished: Finished, open_small: OpenRun, tmp_path: Path
) -> None:
    before = list(read_rows(finished.directory / "metrics"))
    flags = (*MEASURED, "PlayConfig.seed_target = 0", "TOTAL_STEPS = 3")
    with open_small(finished.directory, *flags) as run:
        state, _ = run.restore_or_start()
        assert int(state.step) == 2
    with open_small(finished.directory, *flags) as run:
        summary = train(run)
    assert summary["steps"] == 3
    assert summary["seconds"] > finished.summary["seconds"]
    rows = list(read_rows(finished.directory / "metrics"))
    assert rows[:2] == before
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert summary["heldout"]["before"] == finished.summary["heldout"]["before"]


# --- shapes ------------------------------------------------------------------------------------


def test_no_length_of_completions_compiles_the_update_again(
    open_small: OpenRun,
    random_model: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """From a step that learns nothing to one whose every sample fills a row by itself."""
    bindings = ["RunConfig.batch_rows = 1", "RunConfig.estimate_reuse = True"]
    bindings += ["RunConfig.row_tokens = (152,)", "PlayConfig.batch_size = 2"]
    with open_small(tmp_path / "run", *random_model, *bindings) as run:
        state = state_of_params(run.policy.model, run.optimizer, run.policy.mesh, run.policy.params)
        monkeypatch.setattr(run.sampler, "compile", lambda *_: None)
        run.compile(state)
        most = run.config.most_samples(run.game.config)
        assert most == 2 * 3 * 2 + 3 * 2 * 2  # roles x types x B, and types x B x G
        texts = distinct_prompts(most, 128, run.policy.tokenizer.encode)
        answered: Any = None
        for length in (0, 1, 12, 24):
            rollouts = [
                Rollout(
                    Request("solve", "deduction", index, text),
                    Completion(0, 0, (5,) * max(1, length), (-1.0,) * max(1, length), "length", ""),
                    answered,
                )
                for index, text in enumerate(texts)
            ]
            batch = run.pack(rollouts, np.ones(most), np.full(most, length > 0))
            assert batch.shape == (most, 152)
            state, _ = run.update(state, batch)
            run.stopper.release()
        assert (batch.mask > 0).any(axis=1).all()
        assert run._compiled == run.compiled_ahead


def distinct_prompts(count: int, tokens: int, encode: Callable[[str], list[int]]) -> list[str]:
    filler = next("a" * n for n in range(1000) if len(encode("000 " + "a" * n)) == tokens)
    texts = [f"{index:03} {filler}" for index in range(count)]
    assert all(len(encode(text)) == tokens for text in texts)
    return texts


# --- seeds -------------------------------------------------------------------------------------


def test_the_published_seed_files_start_a_run_and_verify_again(
    open_small: OpenRun, random_model: Sequence[str], tmp_path: Path
) -> None:
    files = [str(TRIPLETS / name) for name in SEED_FILES]
    if not all(Path(name).is_file() for name in files):
        pytest.skip("no ../shared/data/triplets beside the checkout")
    bindings = [*random_model, f"RunConfig.seed_files = {tuple(files)}"]
    with open_small(tmp_path / "run", *bindings) as run:
        run.game.count_tokens = lambda prompt: 1  # here every prompt fits
        _, play = run.restore_or_start()
        sizes = {name: len(buffer) for name, buffer in play.buffers.items()}
        assert sizes["deduction"] == sizes["abduction"]
        assert sizes["deduction"] > 350  # the two files share some
        assert sizes["induction"] > 350
        triplets = [entry.task for entry in play.buffers["deduction"].entries]
        jobs = [Job(code=t.program, inputs=(t.input,)) for t in triplets]
        outcomes = run.game.box.run(jobs)
        assert [o.outputs[0] for o in outcomes] == [t.output for t in triplets]
        tasks = [entry.task for entry in play.buffers["induction"].entries]
        outcomes = run.game.box.run([Job(code=t.program, inputs=t.inputs) for t in tasks])
        assert [tuple(o.outputs) for o in outcomes] == [t.outputs for t in tasks]
        # They are what the first step works on.
        seeded = {t for t in triplets if isinstance(t, Triplet)}
        requests = run.game.propose_requests(play, 0)
        assert all(set(request.references) <= seeded for request in requests)


# --- what is refused, before anything is written -----------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], gin_file: Path, *flags: str) -> str:
    """The one line of a command that ends with exit code 2."""
    assert cli.main(["train", "--gin_file", str(gin_file), *flags]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("PlayConfig.batch_sise = 3", "did you mean batch_size?"),
        ("RunConfig.init_checkpoint = 'no/such/place'", "'no/such/place': no such directory"),
        ("RunConfig.init_checkpoint = '{tmp}'", "no checkpoint in"),
        ("RunConfig.seed_files = ('no/seeds.jsonl',)", "cannot read no/seeds.jsonl"),
        ("RunConfig.seed_files = ('{tmp}/bad.jsonl',)", "bad.jsonl:2: not a seed"),
        ("RunConfig.seed_files = ('{tmp}/binary.jsonl',)", "cannot read"),
        ("RunConfig.row_tokens = (128,)", "do not fit a row"),
        (
            "ModelConfig.max_positions = 191",
            "128 tokens and 64 new ones exceed the 191 positions of the model; shorten",
        ),
        ("MeshConfig.data = 3", "does not fill"),
        ("SamplerConfig.top_p = 0.95", "SamplerConfig.top_p = 0.95 narrows what is drawn"),
        ("SamplerConfig.top_k = 50", "SamplerConfig.top_k = 50 narrows what is drawn"),
        ("PlayConfig.samples_per_task = 1", "learnability always 0"),
        ("PlayConfig.batch_size = 1", "its advantage always 0"),
        ("LossConfig.kl = 0.1", "LossConfig.kl = 0.1 would change nothing"),
        ("LossConfig.kl = (0.0, 0.0, 0.0, 0.0, 0.0, 0.1)", "has no gradient"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_run(
    binding: str,
    message: str,
    small_gin: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"snippet": "def f(a): return a", "input": "1"}\n{"a": 1}')
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    run = tmp_path / "run"
    given = binding.replace("{tmp}", str(tmp_path))
    line = refused(capsys, small_gin, "--run_dir", str(run), "--gin_bindings", given)
    assert message in line
    assert not run.exists()


def test_what_a_newer_version_can_be_told_was_at_its_default(
    finished: Finished, small_gin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = tmp_path / "older"
    older.mkdir()
    lines = (finished.directory / "config.gin").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("RunConfig.max_gap")]
    assert len(kept) == len(lines) - 1
    (older / "config.gin").write_text("".join(kept))
    flags = [f"--gin_bindings={b}" for b in (*MEASURED, "PlayConfig.seed_target = 0")]
    other = [*flags, "--gin_bindings=RunConfig.max_gap = 0.7"]
    line = refused(capsys, small_gin, "--run_dir", str(older), *other)
    assert "RunConfig.max_gap was 0.5, is now 0.7; name" in line
    other = [*flags, "--gin_bindings=RunConfig.seed = 7"]
    line = refused(capsys, small_gin, "--run_dir", str(older), *other)
    assert "RunConfig.seed was 0, is now 7; name" in line  # and nothing else differs


def test_a_run_directory_of_another_configuration_is_refused(
    finished: Finished, small_gin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (finished.directory / "config.gin").read_text()
    line = refused(capsys, small_gin, "--run_dir", str(finished.directory))
    assert "is a run with another configuration" in line
    flags = [f"--gin_bindings={b}" for b in (*MEASURED, "PlayConfig.seed_target = 0")]
    other = [*flags, "--gin_bindings=RunConfig.seed = 7"]
    line = refused(capsys, small_gin, "--run_dir", str(finished.directory), *other)
    assert "RunConfig.seed was 0, is now 7" in line
    assert (finished.directory / "config.gin").read_text() == text


def test_a_directory_of_something_else_is_refused(
    small_gin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("all my work")
    line = refused(capsys, small_gin, "--run_dir", str(tmp_path))
    assert "is not empty and is no run directory" in line
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
