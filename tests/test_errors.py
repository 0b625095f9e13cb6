import re

import pytest

from embedx import errors
from embedx.errors import EmbedxError

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, EmbedxError)]


@pytest.mark.parametrize(
    "kind", [one for one in CLASSES if one is not errors.Interrupted], ids=lambda one: one.__name__
)
def test_errors_docstring_lists_every_class_with_exit_code(kind: type[EmbedxError]) -> None:
    assert re.search(rf"\b{kind.__name__} +{kind.exit_code} ", errors.__doc__ or "")


def test_interrupted_exits_with_128_plus_signal() -> None:
    assert errors.Interrupted("stopped", 15).exit_code == 143
