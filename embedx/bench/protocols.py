"""Protocols: names for a number of shots and seeds."""

from dataclasses import dataclass

from embedx.bench.results import Shots


@dataclass(frozen=True)
class Protocol:
    """How many training rows are sampled, and how often. The whole test part is always tested.

    Attributes:
        name: the name of the protocol.
        shots: training rows per class, or "all".
        seeds: number of samples of each size.
        sentence: a description.
    """

    name: str
    shots: tuple[Shots, ...]
    seeds: int
    sentence: str


FEW_SHOT_SIZES: tuple[Shots, ...] = (1, 2, 4, 8, 16, 32, "all")
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("full", ("all",), 1, "Every training row is used."),
        Protocol("few-shot", FEW_SHOT_SIZES, 5, "1 to 32 rows of every class, five times each, and all rows."),
        Protocol("mteb", (8,), 10, "8 rows of every class, ten times; the mean counts (the protocol of MTEB)."),
    )
}
