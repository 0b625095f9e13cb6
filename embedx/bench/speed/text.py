"""Sheet: what was measured of a speed, as text for people."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from embedx.ingest.pipeline import by_way

if TYPE_CHECKING:
    from embedx.bench.speed.result import Speed

STAGES = {  # stage -> what it is
    "decode": "files to samples at their own rate",
    "resample": "to the rate of the model",
    "copy": "a batch put together, and onto the device",
    "model": "frames",
    "pooling": "frames to vectors, and back to the CPU",
    "wait": "nothing to do: no audio was ready",
    "write": "into the collection",
}
WIDTH, INDENT = 100, 10  # columns, and of the names before facts
Line = tuple[str, str, str, str, str]
HEAD: Line = ("stage", "runs in", "s per hour of audio", "share", "what it does")


def as_text(speed: "Speed", form: str = "table") -> str:
    """Return the sheet, its table aligned or in Markdown."""
    figures, machine = speed.figures, speed.machine
    title = f"{figures.times_real_time:.1f} hours of audio an hour ({figures.times_real_time:.1f} x real time)"
    facts = {
        "measured": f"{figures.audio_s:.0f} s of audio in {figures.wall_s:.2f} s, "
        f"{figures.processor_s:.2f} s of processor time",
        "model": f"{speed.model}, {speed.backend} backend, {speed.precision}, batches of {speed.batch_seconds:g} s, "
        f"padded by {figures.padding:.2f}",
        "corpus": f"{figures.recordings} recordings, {len(figures.lengths)} windows, of {speed.corpus}",
        "failed": ", ".join(f"{count} {reason}" for reason, count in sorted(figures.failures.items())) or "none",
        "machine": f"{machine['device']}, {machine['cores']} cores (load {machine['load']:.1f}), "
        f"torch {machine['versions']['torch']}",
        "start-up": f"{speed.load_s:.1f} s to load the model, which is in no other figure",
        "limit": limit_of(speed),
    }
    if speed.kernels:
        facts["kernels"] = by_way(speed.kernels)
    if speed.replaced:
        facts["replaced"] = f"wrong numbers on this processor, so {by_way(speed.replaced)}"
    note = (
        f"Shares are of the time of all that a stage runs in: {speed.lanes} lanes of the model, {speed.decoders} "
        "decoders, one writer. They work at the same time, so shares of different ones do not add up; what is "
        "missing of a whole is idle."
    )
    table = in_columns(lines_of(speed)) if form == "table" else in_markdown(lines_of(speed))
    if form == "markdown":
        listed = "\n".join(f"- {name}: {what}" for name, what in facts.items())
    else:
        listed = "\n".join(
            textwrap.fill(what, WIDTH, initial_indent=f"{name}:".ljust(INDENT), subsequent_indent=" " * INDENT)
            for name, what in facts.items()
        )
    advice = "\n".join(textwrap.fill(f"- {one}", WIDTH, subsequent_indent="  ") for one in speed.advice)
    return f"{title}\n\n{listed}\n\n{table}\n\n{textwrap.fill(note, WIDTH)}\n\nWhat would help:\n\n{advice}\n"


def limit_of(speed: "Speed") -> str:
    """Say how near a run came to the limit."""
    share = speed.share_of_limit
    if share is None or speed.operations is None or speed.peak is None:
        return f"none is known for {speed.model}, which is hardly any products of matrices"
    each = speed.operations / speed.figures.audio_s / 1e9
    alone = speed.share_of("model")
    return (
        f"{share:.0%} of it; {share / alone:.0%} while the model computes. {each:.1f} GFLOP for a second of audio, "
        f"{speed.peak / 1e9:.0f} GFLOP/s in products of {speed.precision}"
    )


def lines_of(speed: "Speed") -> list[Line]:
    """Return the lines of the table, its head first."""
    lines = [HEAD]
    for stage, what in STAGES.items():
        count = speed.workers_of(stage)
        room = "writer" if stage == "write" else "decoder" if stage in ("decode", "resample") else "lane"
        place = f"{count} {room}{'s' if count > 1 else ''}"
        name = "waiting" if stage == "wait" else stage
        lines.append((name, place, f"{speed.per_hour(stage):.2f}", f"{speed.share_of(stage):.1%}", what))
    return lines


def in_columns(lines: Sequence[Line]) -> str:
    """Return lines in aligned columns, numbers to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    rows = [[line[i].rjust(widths[i]) if i in (2, 3) else line[i].ljust(widths[i]) for i in range(5)] for line in lines]
    return "\n".join("  ".join(row).rstrip() for row in rows)


def in_markdown(lines: Sequence[Line]) -> str:
    """Return lines as a table of Markdown."""
    head, *rest = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([head, "|---|---|--:|--:|---|", *rest])
