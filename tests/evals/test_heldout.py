"""A measurement on disk: whole, or refused with a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from azr_jax.errors import UserError
from azr_jax.evals.heldout import EvalConfig, Measured


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "heldout" / "before.json"
    sampled = np.array([[True, False], [False, False]])
    Measured(0.5, sampled, sampled[:, :1], ~sampled).write(path)
    found = Measured.read(path)
    assert found.best_temperature == 0.5
    np.testing.assert_array_equal(found.sampled, sampled)
    np.testing.assert_array_equal(found.greedy, sampled[:, :1])
    np.testing.assert_array_equal(found.at_best_temperature, ~sampled)
    assert [p.name for p in path.parent.iterdir()] == ["before.json"]


@pytest.mark.parametrize("text", ["", '{"best_temp', "[]", "{}", '{"best_temperature": 1}', "\x00"])
def test_a_damaged_one_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "before.json").write_text(text)
    with pytest.raises(UserError, match=r"before.json is damaged"):
        Measured.read(tmp_path / "before.json")


@pytest.mark.parametrize("every", [-1, 5])
def test_scores_need_dev_tasks(every: int) -> None:
    with pytest.raises(UserError, match="needs a dev benchmark"):
        EvalConfig(every=every)
