"""Protocols: which few-shot draws and metrics a benchmark uses."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedx.evaluation.few_shot import sample_shots


@dataclass(frozen=True)
class Protocol:
    """How many training rows are drawn how often; what is tested is always the whole test part of the task."""

    name: str
    shots: tuple[int | Literal["all"], ...]
    seeds: int
    sentence: str

    def draw(
        self, y: NDArray[np.int64], groups: NDArray[np.int64] | None
    ) -> Iterator[tuple[int | Literal["all"], int, NDArray[np.int64]]]:
        """Yield (shots, seed, positions) of every draw from the training rows; all of them are drawn once.

        y, groups: classes [N] or [N, C] and groups [N] of the training rows; see
        `embedx.evaluation.few_shot.sample_shots`.
        """
        for shots in self.shots:
            if shots == "all":
                yield shots, 0, np.arange(len(y))
            else:
                for seed in range(self.seeds):
                    yield shots, seed, sample_shots(y, groups, shots, seed)


PROTOCOLS = {
    one.name: one
    for one in (
        Protocol("full", ("all",), 1, "Every training row is used."),
        Protocol(
            "few-shot", (1, 2, 4, 8, 16, 32, "all"), 5, "1 to 32 rows of every class, five times each, and all rows."
        ),
        Protocol("mteb", (8,), 10, "8 rows of every class, ten times; the mean counts (the protocol of MTEB)."),
    )
}
