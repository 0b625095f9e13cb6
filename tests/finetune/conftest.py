"""Fixtures: the corpus of tones."""

import pandas as pd
import pytest

from tests.helpers.finetuning import write_tones


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return write_tones(tmp_path_factory.mktemp("tones"))
