"""Small versions of the simulations of `make statistics`: no claim is refuted."""

import importlib

import pytest
from claims import PARTS

SCALE = 0.01  # of the trials of `make statistics`


SLOW = ("intervals", "permutation", "suspects")  # take seconds also at this scale


@pytest.mark.parametrize("part", [pytest.param(part, marks=pytest.mark.long if part in SLOW else ()) for part in PARTS])
def test_small_simulation_agrees_with_claims(part: str) -> None:
    claims = importlib.import_module(part).simulate(SCALE, seed=1)
    assert claims
    assert [claim.row() for claim in claims if not claim.plausible] == []
