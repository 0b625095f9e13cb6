"""`embedx finetune --search`: chosen on the validation part only, and the same whether it was stopped or not."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from embedx.errors import Interrupted, UsageError
from embedx.finetune.result import Finetuned
from tests.helpers.finetuning import Checkpoint, train_tones

pytestmark = pytest.mark.long


def find(frame: pd.DataFrame, model: Path, out: Path, **options: Any) -> Finetuned:
    return train_tones(frame, model, out, **{"epochs": 2, "learning_rate": 1e-3, "trials": 3, **options})


def trials_of(result: Finetuned) -> list[dict[str, Any]]:
    return [{name: value for name, value in trial.items() if name != "seconds"} for trial in result.facts["trials"]]


def test_search_starts_with_the_given_options_and_depends_on_no_test_row(
    tones: pd.DataFrame, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    model = checkpoint("hubert")
    trials = trials_of(find(tones, model, tmp_path / "a"))
    assert trials[0]["options"] == {"learning_rate": 1e-3, "head_rate": 1e-2, "freeze": "none", "dropout": 0.1,
                                    "pooling": "native", "layer": "last"}  # fmt: skip
    other = tones.copy()
    test = other["split"] == "test"
    other.loc[test, "label"] = list(other.loc[test, "label"])[::-1]
    assert trials_of(find(other, model, tmp_path / "b")) == trials


def test_search_that_was_stopped_goes_on_and_refuses_other_options(
    tones: pd.DataFrame, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    model, done = checkpoint("hubert"), list[dict[str, Any]]()

    def note(values: dict[str, Any]) -> None:
        done.extend([values] if "trial" in values else [])

    with pytest.raises(Interrupted):
        find(tones, model, tmp_path / "a", report=note, interrupted=lambda: 15 if done else 0)
    with pytest.raises(UsageError, match="another search: batch_size differ"):
        find(tones, model, tmp_path / "a", batch_size=5)
    resumed = find(tones, model, tmp_path / "a", report=note)
    assert [values["trial"] for values in done] == [1, 2, 3]  # none is run twice
    assert trials_of(resumed) == trials_of(find(tones, model, tmp_path / "b"))
