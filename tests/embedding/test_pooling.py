from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from embedx.embedding.pooling import POOLINGS

NUMPY: dict[str, Callable[..., Any]] = {"mean": np.mean, "sum": np.sum, "max": np.max}


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooling_uses_valid_frames_only(name: str, dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(0)
    frames = torch.randn(4, 9, 5, generator=random).to(dtype)
    lengths = torch.tensor([1, 4, 9, 3])
    expected = [NUMPY[name](frames[i, :n].float().numpy(), axis=0) for i, n in enumerate(lengths.tolist())]
    for rubbish in (0.0, 1e9, torch.nan, torch.inf):
        for i, n in enumerate(lengths.tolist()):
            frames[i, n:] = rubbish
        pooled = POOLINGS[name](frames, lengths)
        assert pooled.dtype == torch.float32
        np.testing.assert_allclose(pooled.numpy(), expected, rtol=1e-6, atol=1e-6)
