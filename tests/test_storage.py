"""Run directories and checkpoints in a bucket: as on a disk, and never taken for empty."""

from __future__ import annotations

import importlib.util
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from azr_jax import storage
from azr_jax.cli import main
from azr_jax.errors import UserError
from azr_jax.report.metrics import SegmentWriter, read_rows
from tests.emulator import Emulator, impatience

PLACES = ("disk", "bucket")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "disk":
        return tmp_path / "run"
    return storage.locate(request.getfixturevalue("bucket")) / "run"


# --- files -------------------------------------------------------------------------------------


def test_files(place: Path) -> None:
    assert storage.read(place / "a.json") is None
    assert storage.names(place) == []
    assert not storage.is_folder(place)
    storage.write(place / "a.json", "ä\udc80")
    storage.write(place / "deep" / "er" / "b", b"\x00\xff")
    storage.write(place / "a.json", "anew")
    assert storage.read(place / "a.json") == b"anew"
    assert storage.read(place / "deep" / "er" / "b") == b"\x00\xff"
    assert storage.read(place / "deep") is None
    assert storage.names(place) == ["a.json", "deep"]
    assert storage.is_folder(place / "deep")
    assert not storage.is_folder(place / "dee")
    storage.remove(place / "a.json")
    storage.remove(place / "a.json")
    assert storage.names(place) == ["deep"]


def test_what_another_process_writes_is_seen(bucket: str) -> None:
    """etils and gcsfs keep listings for ever by default."""
    place = storage.locate(bucket) / "run"
    storage.write(place / "a", "")
    assert storage.names(place) == ["a"]
    ours = storage._filesystem()
    other = type(ours)(use_listings_cache=False, skip_instance_cache=True)
    assert other is not ours
    other.pipe_file(str(place / "b"), b"")
    assert storage.names(place) == ["a", "b"]
    assert {path.name for path in place.iterdir()} == {"a", "b"}, "etils' own view of it"


def test_a_new_file_is_whole_or_not_there_in_a_bucket(place: Path) -> None:
    file = storage.create(place / "rows")
    file.write("one\n")
    file.write("two\n")
    seen = storage.read(place / "rows")
    assert seen == (None if storage.is_remote(place) else b"one\ntwo\n")
    file.seal()
    assert storage.read(place / "rows") == b"one\ntwo\n"


def test_segments(place: Path) -> None:
    writer = SegmentWriter(place)
    for step in range(6):
        writer.append({"step": step, "text": "ä"})
        if step % 2:
            writer.seal()
    writer.append({"step": 6})  # of a run that is killed here
    resumed = SegmentWriter(place, next_step=3)
    assert [row["step"] for row in read_rows(place)] == [0, 1, 2]
    resumed.append({"step": 3})
    resumed.seal()
    assert list(read_rows(place))[-1] == {"step": 3}
    assert storage.names(place) == ["00000.jsonl", "00001.jsonl", "00002.jsonl"]


def test_a_local_copy_holds_the_files_of_one_folder(bucket: str) -> None:
    place = storage.locate(bucket) / "tokenizer"
    storage.write(place / "tokenizer.json", "{}")
    storage.write(place / "params" / "big", "")
    copy = storage.local_copy(place)
    assert [(path.name, path.read_text()) for path in copy.iterdir()] == [("tokenizer.json", "{}")]
    assert storage.local_copy(copy) == copy


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["train", "report", "export", "eval"])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("s3://somewhere/run", "neither a local directory nor gs://BUCKET/FOLDER"),
        ("gs:///run", "neither a local directory nor gs://BUCKET/FOLDER"),
        ("gs://azr-nowhere/run", "gs://azr-nowhere: no such bucket; make it"),
        ("gs://B/run", "gs://B: "),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_any_work(
    command: str,
    name: str,
    says: str,
    emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    before = emulator.buckets()
    assert main(arguments(command, name, tmp_path)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("azr: ")
    assert says in line
    assert emulator.buckets() == before, "gcsfs makes a bucket that is not there"
    assert list(tmp_path.iterdir()) == []


def arguments(command: str, name: str, folder: Path) -> list[str]:
    return {
        "train": ["train", "--run_dir", name],
        "report": ["report", name],
        "export": ["export", "--checkpoint", name, "--out", str(folder / "out")],
        "eval": ["eval", "--checkpoint", name, "--benchmark", "tiny-test"],
    }[command]


def test_missing_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "gcsfs" else found(name)
    )
    assert main(["report", "gs://azr-0/run"]) == 2
    assert capsys.readouterr().err == (
        "azr: gs://azr-0/run needs gcsfs: pip install 'azr-jax[gcs]'\n"
    )


def test_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"gs://azr-1: no Google credentials: .*gcloud auth"):
        storage._require_bucket.__wrapped__("azr-1")


def test_no_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator knows no rights: this is a server that gives Google's answer to everything."""

    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            message = "nobody does not have storage.buckets.get access"
            body = json.dumps({"error": {"code": 403, "message": message}}).encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *said: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(UserError, match=r"no right .* storage.buckets.get .* It takes the"):
            storage._require_bucket.__wrapped__("azr-1")
        server.shutdown()


def test_a_compilation_cache_that_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "gs://azr-nowhere/cache")
    assert main(["train"]) == 2
    assert "gs://azr-nowhere: no such bucket" in capsys.readouterr().err


def test_xla_keeps_nothing_in_a_bucket(
    monkeypatch: pytest.MonkeyPatch, bucket: str, tmp_path: Path
) -> None:
    """Asked to, it fails at the first compilation on a GPU; JAX asks it to by default."""
    name = "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"
    monkeypatch.setenv(name, "")
    monkeypatch.delenv(name)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    storage.require_compilation_cache()
    assert name not in os.environ
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", bucket)
    storage.require_compilation_cache()
    assert os.environ[name] == "none"


def test_results_go_to_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["import", "--hf", "model", "--out", "gs://azr-0/model"])
    assert ended.value.code == 2
    assert "gs://azr-0/model: name a file or folder of this machine" in capsys.readouterr().err


# --- a bucket that goes away -------------------------------------------------------------------


def test_a_bucket_that_does_not_answer_is_not_taken_for_an_empty_one(
    emulator: Emulator, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = storage.locate(bucket) / "run"
    storage.write(place / "config.gin", "")
    with emulator.gate.shut(), impatience():
        for action in (storage.read, storage.names, storage.is_folder, storage.remove):
            with pytest.raises(storage.StorageError, match=r"gs://.*/run cannot be"):
                action(place)
        with pytest.raises(storage.StorageError, match="cannot be written"):
            storage.write(place / "x", "")
        storage._require_bucket.cache_clear()
        assert main(["train", "--run_dir", str(place)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"azr: {bucket} cannot be reached: ")
    assert line.endswith("Run the same command again once it can")
    assert storage.read(place / "config.gin") == b""
