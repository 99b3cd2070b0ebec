"""The commands: exit codes, one plain line for bad input, and gin files that all parse."""

from __future__ import annotations

import dataclasses
import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import gin
import pytest

from azr_jax import cli, config
from azr_jax.errors import UserError
from azr_jax.model import hf
from azr_jax.report.html import write_report
from sandbox import Limits

ROOT = Path(__file__).resolve().parent.parent
GIN = ROOT / "gin"
FILES = sorted(str(path.relative_to(GIN)) for path in GIN.rglob("*.gin"))
RUNS = [name for name in FILES if name.startswith("runs/")]
MACROS = ["INIT_CHECKPOINT = 'somewhere'", "RUN_DIR = 'runs/test'"]
BILLIONS = {
    "qwen2_5_3b": 3.09,
    "qwen2_5_7b": 7.62,
    "qwen2_5_14b": 14.77,
    "qwen2_5_coder_3b": 3.09,
    "qwen2_5_coder_7b": 7.62,
    "qwen2_5_coder_14b": 14.77,
    "qwen3_4b": 4.02,
    "qwen3_8b": 8.19,
    "qwen3_14b": 14.77,
    "llama3_1_8b": 8.03,
}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The single line of a command that ends with exit code 2."""
    try:
        code: object = cli.main(arguments)
    except SystemExit as stop:  # argparse's own
        code = stop.code
    assert code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("azr")
    assert captured.err.count("\n") == 1
    return captured.err


# --- gin files --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_every_gin_file_parses(name: str) -> None:
    bindings = MACROS if name.startswith(("runs/", "paper")) else []
    config.parse([name], bindings)


@pytest.mark.parametrize("name", RUNS)
def test_every_run_file_builds_all_of_its_parts(name: str) -> None:
    config.parse([name], MACROS)
    for part in config.CONFIGURABLES:
        config.build(part)
    text = config.operative_text()
    assert "RunConfig.total_steps" in text
    config.parse([], [text])  # what a run directory keeps can be read again
    assert config.build("RunConfig").init_checkpoint == "somewhere"


@pytest.mark.parametrize("name", [n for n in FILES if n.startswith(("runs/", "ablations/"))])
def test_run_files_say_what_they_are_for(name: str) -> None:
    head = (GIN / name).read_text().partition("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    for word in ("azr train", name, "ardware", "ime", "Result:"):
        assert word in head


@pytest.mark.parametrize("name", [n for n in FILES if n.startswith("ablations/")])
def test_ablations_go_on_top_of_a_run(name: str) -> None:
    built = {}
    for files in (["runs/azr_7b.gin"], ["runs/azr_7b.gin", name]):
        config.parse(files, MACROS)
        built[len(files)] = [config.build(part) for part in ("PlayConfig", "RunConfig")]
    assert (built[1] == built[2]) == (name == "ablations/full.gin")


def test_the_run_files_keep_the_papers_values() -> None:
    config.parse(["runs/azr_7b.gin"], MACROS)
    play, optimizer = config.build("PlayConfig"), config.build("OptimizerConfig")
    assert (play.batch_size, play.references, play.samples_per_task) == (64, 6, 8)
    assert (optimizer.learning_rate, optimizer.weight_decay) == (1e-6, 0.01)
    assert config.build("LossConfig").entropy == 0.001
    assert config.build("RunConfig").total_steps == 500
    assert config.build("Limits") == Limits(cpu_s=10.0, wall_s=60.0, memory_mb=1024)


@pytest.mark.parametrize("name", BILLIONS)
def test_model_shapes_have_the_published_size(name: str) -> None:
    config.parse([f"models/{name}.gin"])
    count = config.build("ModelConfig").parameter_count()
    assert count / 1e9 == pytest.approx(BILLIONS[name], abs=0.006)


def test_tiny_shape_is_the_one_that_is_shipped() -> None:
    weights = ROOT / "azr_jax" / "tiny" / "weights"
    config.parse(["models/tiny.gin"])
    assert config.build("ModelConfig") == hf.read_config(weights)


# --- mistakes in gin --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("PlayConfig.batch_sise = 3", "PlayConfig has no batch_sise; did you mean batch_size?"),
        ("PlayConfg.batch_size = 3", "nothing is called PlayConfg; did you mean PlayConfig?"),
        ("TOTAL_STEP = 3", "nothing uses the macro TOTAL_STEP; did you mean TOTAL_STEPS?"),
        ("PlayConfig.batch_size = %SEEDFILES", "the macro SEEDFILES; did you mean SEED_FILES?"),
        ("PlayConfig.batch_size = many", "many is no value; text needs quotes"),
        ("PlayConfig.batch_size", "PlayConfig.batch_size"),
        ("PlayConfig.batch_size = 2.5", "PlayConfig.batch_size = 2.5 is not of type int"),
        ("PlayConfig.batch_size = True", "PlayConfig.batch_size = True is not of type int"),
        ("OptimizerConfig.learning_rate = '1e-6'", "is not of type float"),
        ("PlayConfig.task_types = ('deduktion',)", "is not of type"),
        ("PlayConfig.task_types = 'deduction'", "is not of type"),
        ("ModelConfig.rope_scaling = @RopeScale()", "did you mean RopeScaling?"),
        ("PlayConfig.reject_multiple_functions = 1", "is not of type bool"),
        ("TOTAL_STEPS = '80'", "RunConfig.total_steps = '80' is not of type int"),
        ("include 'models/none.gin'", "no file 'models/none.gin'"),
        ("import nothing_of_that_name", "nothing_of_that_name"),
        ("INIT_CHECKPOINT = %gin.REQUIRED", "INIT_CHECKPOINT must be set"),
        ("PlayConfig.batch_size = 0", "batch_size is at least 1, not 0"),
        ("RunConfig.temperature = 0.0", "self-play samples"),
        ("PlayConfig.max_prompt_tokens = 4096", "SamplerConfig.max_prompt_tokens"),
        ("RunConfig.init_checkpoint = '/no/such/model'", "/no/such/model"),
        ("MeshConfig.tensor = 7", "MeshConfig"),
    ],
)
def test_a_mistake_stops_the_run_with_one_line(
    binding: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    line = refused(capsys, "train", "--run_dir", str(run), "--gin_bindings", binding)
    assert message in line
    assert not run.exists()


def test_a_mistake_in_a_file_names_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.gin"
    path.write_text("include 'runs/tiny.gin'\n\nLossConfig.clip_hi = 0.28\n")
    line = refused(capsys, "train", "--gin_file", str(path))
    assert f"{path}:3: LossConfig has no clip_hi; did you mean clip_high?" in line


def test_an_include_is_found_beside_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first run there is a folder `runs`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "mine.gin").write_text("include 'runs/tiny.gin'\n")
    config.parse(["mine.gin"])
    assert config.build("PlayConfig").prompt_style == "compact"


def test_required_values_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "INIT_CHECKPOINT must be set" in refused(
        capsys, "train", "--gin_file", "runs/azr_7b.gin"
    )
    config.parse([])
    with pytest.raises(UserError, match=r"ModelConfig lacks 'vocab_size'.* gin/models"):
        config.build("ModelConfig")


def test_files_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config.parse(["runs/tiny.gin"])
    steps = config.build("RunConfig").total_steps
    # The working directory wins, for includes too.
    (tmp_path / "gin" / "models").mkdir(parents=True)
    (tmp_path / "gin" / "models" / "tiny.gin").write_text("ModelConfig.vocab_size = 7")
    config.parse(["runs/tiny.gin"])
    assert gin.query_parameter("ModelConfig.vocab_size") == 7
    assert config.build("RunConfig").total_steps == steps
    assert "no file 'runs/tinny.gin'" in refused(capsys, "train", "--gin_file", "runs/tinny.gin")


def test_bindings_come_last_and_flags_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        "azr_jax.train.train_command", lambda _: seen.append(config.build("RunConfig"))
    )
    flags = ["--gin_bindings", "TOTAL_STEPS = 7", "--gin_bindings", "RunConfig.seed = 5"]
    assert cli.main(["train", *flags, "--run_dir", "it's here"]) == 0
    assert cli.main(["train", *flags, "--steps", "9"]) == 0
    assert [(run.total_steps, run.seed) for run in seen] == [(7, 5), (9, 5)]
    assert [run.run_dir for run in seen] == ["it's here", "runs/tiny"]


def test_pretrain_reads_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("azr_jax.tiny.pretrain.pretrain", lambda *given: seen.append(given))
    vetted = []
    monkeypatch.setattr("azr_jax.vet.vet", vetted.append)
    flags = ["--out", str(tmp_path), "--gin_bindings", "PretrainConfig.seed = 9"]
    assert cli.main(["pretrain", *flags]) == 0
    assert vetted == [tmp_path]
    ((out, recipe),) = seen
    assert (out, recipe.seed) == (tmp_path, 9)


def test_a_run_directory_is_resumed_with_its_own_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.parse(["runs/tiny.gin"], ["RunConfig.seed = 11"])
    config.build("RunConfig")
    (tmp_path / "config.gin").write_text(config.operative_text())
    seen = []
    monkeypatch.setattr(
        "azr_jax.train.train_command", lambda _: seen.append(config.build("RunConfig"))
    )
    assert cli.main(["train", "--run_dir", str(tmp_path), "--steps", "3"]) == 0
    assert (seen[0].seed, seen[0].run_dir, seen[0].total_steps) == (11, str(tmp_path), 3)


def test_at_most_a_dozen_configurables() -> None:
    assert len(config.CONFIGURABLES) <= 12
    config.parse([])
    for name in config.CONFIGURABLES:
        assert dataclasses.is_dataclass(gin.get_configurable(name))


# --- flags and exit codes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("trian",),
        ("train", "--steps", "0"),
        ("train", "--steps", "many"),
        ("train", "--no_such_flag"),
        ("train", "--step", "3"),
        ("verify",),
        ("verify", "no/such/file.jsonl"),
        ("report", "no/such/run"),
        ("pretrain",),
    ],
)
def test_bad_flags(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, *arguments)


def test_a_full_disk_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/x")

    monkeypatch.setattr(f"{write_report.__module__}.write_report", full)
    assert cli.main(["report", "anywhere"]) == 1
    assert re.fullmatch(r"azr: the disk is full: .*\n", capsys.readouterr().err)


def test_an_interruption_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt("saved step 3; the same command goes on from there")

    monkeypatch.setattr(f"{write_report.__module__}.write_report", stop)
    assert cli.main(["report", "anywhere"]) == 1
    assert capsys.readouterr().err == "azr: saved step 3; the same command goes on from there\n"


def test_module_and_command_are_one() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "azr_jax", "--version"], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0
    assert result.stdout.startswith("azr-jax ")


def test_help_loads_no_jax() -> None:
    code = "import sys; sys.argv = ['azr', '--help']\n"
    code += "import atexit; atexit.register(lambda: print('jax' in sys.modules))\n"
    code += "from azr_jax.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert "train" in result.stdout
    assert result.stdout.endswith("False\n")


# --- verify -----------------------------------------------------------------------------------

TASKS = [
    {"id": 1, "task": "deduction", "program": "", "input": "", "output": "[1]", "answer": "[1]"},
    {
        "id": 2,
        "task": "abduction",
        "program": "def f(a): return a * 2",
        "input": "2",
        "output": "4",
        "answer": "3",
    },
    {
        "id": 3,
        "task": "induction",
        "inputs": ["1", "2"],
        "outputs": ["2", "3"],
        "answer": "def f(a): return a + 1",
    },
]


def test_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks, out = tmp_path / "tasks.jsonl", tmp_path / "out.jsonl"
    tasks.write_text("".join(json.dumps(task) + "\n" for task in TASKS))
    level = ("--sandbox_level", "1")
    assert cli.main(["verify", str(tasks), *level]) == 0
    printed = capsys.readouterr().out
    rows = [json.loads(line) for line in printed.splitlines()]
    assert [(row["id"], row["correct"]) for row in rows] == [(1, True), (2, False), (3, True)]
    assert cli.main(["verify", str(tasks), *level, "--out", str(out)]) == 0
    assert out.read_text() == printed
    assert "cannot write" in refused(
        capsys, "verify", str(tasks), *level, "--out", str(tmp_path / "no" / "out")
    )
    tasks.write_text('{"id": 1}\n')
    assert "line 1" in refused(capsys, "verify", str(tasks), *level)
