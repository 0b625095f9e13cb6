"""A speed measurement as text for people, and as plain values for JSON."""

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from embedx.bench.speed.advice import advise
from embedx.bench.speed.result import DECODER_STAGES, STAGES, WRITER_STAGES, Measurement
from embedx.ingest.pipeline import group_by_implementation
from embedx.text import plural

EXPLANATIONS = {  # stage -> what happens in it
    "decode": "files to samples at their own rate",
    "resample": "to the sample rate of the model",
    "copy": "build a batch and copy it to the device",
    "model": "samples to frames",
    "pooling": "frames to vectors, copied back to the CPU",
    "wait": "idle: no audio was ready",
    "write": "to the collection",
}
WIDTH, INDENT = 100, 10  # columns of the text, and columns that the names of facts take
Line = tuple[str, str, str, str, str]
HEADER: Line = ("stage", "runs in", "s per hour of audio", "share", "what it does")


class Speed(Measurement):
    """A speed measurement that explains itself: `str` gives a text for people, `to_dict` values for JSON."""

    @property
    def advice(self) -> list[str]:
        """What would make the run faster, in sentences."""
        return advise(self)

    def __str__(self) -> str:
        return as_text(self)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain values."""
        keys = {"workers": "lanes"}  # the key of earlier versions
        values = {keys.get(name, name): value for name, value in vars(self).items()} | asdict(self.figures)
        del values["figures"], values["seconds"]
        return values | {
            "windows": len(values.pop("lengths")),
            "audio_s": self.figures.audio_s,
            "audio_hours_per_hour": self.figures.times_real_time,
            "share_of_limit": self.share_of_limit,
            "stages": [
                {
                    "stage": stage,
                    "runs_in": self.workers_of(stage),
                    "seconds_per_audio_hour": self.per_hour(stage),
                    "share": self.share_of(stage),
                }
                for stage in STAGES
            ],
            "trials": [asdict(trial) for trial in self.trials],
            "advice": self.advice,
        }


def as_text(measurement: Measurement, form: str = "table") -> str:
    """Return a measurement as text.

    Args:
        measurement: the measurement.
        form: "table" (aligned columns) or "markdown".

    Returns:
        The speed, facts about the run, the time of each stage, and advice.
    """
    rate = measurement.figures.times_real_time
    lines = list_stages(measurement)
    note = (
        f"A share is the fraction of the time of the threads or processes that run the stage: {measurement.workers} "
        f"workers that run the model, {measurement.decoders} decoders, one writer. They work at the same time, so "
        "shares of different ones do not add up to 100 %; the rest of the time they are idle."
    )
    advice = "\n".join(textwrap.fill(f"- {text}", WIDTH, subsequent_indent="  ") for text in advise(measurement))
    parts = (
        f"{rate:.1f} hours of audio per hour ({rate:.1f} x real time)",
        format_facts(list_facts(measurement), form),
        align_columns(lines) if form == "table" else format_markdown(lines),
        textwrap.fill(note, WIDTH),
        "How to make it faster:",
        advice,
    )
    return "\n\n".join(parts) + "\n"


def list_facts(measurement: Measurement) -> dict[str, str]:
    """Return name -> text for what is known about a measurement besides the stages."""
    figures, machine = measurement.figures, measurement.machine
    facts = {
        "measured": f"{figures.audio_s:.0f} s of audio in {figures.wall_s:.2f} s, "
        f"{figures.processor_s:.2f} s of processor time",
        "model": f"{measurement.model}, {measurement.backend} backend, {measurement.precision}, batches of "
        f"{measurement.batch_seconds:g} s, padded by a factor of {figures.padding:.2f}",
        "corpus": f"{plural(figures.recordings, 'recording')}, {plural(len(figures.lengths), 'window')}, "
        f"from {measurement.corpus}",
        "failed": ", ".join(f"{count} {reason}" for reason, count in sorted(figures.failures.items())) or "none",
        "machine": f"{machine['device']}, {machine['cores']} cores (load {machine['load']:.1f}), "
        f"torch {machine['versions']['torch']}",
        "start-up": f"{measurement.load_s:.1f} s to load the model, not included in the other figures",
        "limit": explain_limit(measurement),
    }
    if measurement.kernels:
        facts["kernels"] = group_by_implementation(measurement.kernels)
    if measurement.replaced:
        facts["replaced"] = (
            f"kernels that failed their check on this processor: {group_by_implementation(measurement.replaced)}"
        )
    return facts


def format_facts(facts: dict[str, str], form: str) -> str:
    """Return facts as wrapped lines with a name before each, or as a Markdown list."""
    if form == "markdown":
        return "\n".join(f"- {name}: {text}" for name, text in facts.items())
    return "\n".join(
        textwrap.fill(text, WIDTH, initial_indent=f"{name}:".ljust(INDENT), subsequent_indent=" " * INDENT)
        for name, text in facts.items()
    )


def explain_limit(measurement: Measurement) -> str:
    """Say how near a run came to the limit, which is the peak rate of matrix products on the device."""
    share = measurement.share_of_limit
    if share is None or measurement.operations is None or measurement.peak is None:
        return f"not known for {measurement.model}, which computes hardly any matrix products"
    per_second = measurement.operations / measurement.figures.audio_s / 1e9
    return (
        f"{share:.0%} of it over the run, {share / measurement.share_of('model'):.0%} while the model computes "
        f"({per_second:.1f} GFLOP per second of audio; peak {measurement.peak / 1e9:.0f} GFLOP/s for matrix products "
        f"in {measurement.precision})"
    )


def list_stages(measurement: Measurement) -> list[Line]:
    """Return the lines of the table of stages, the header first."""
    lines = [HEADER]
    for stage in STAGES:
        count = measurement.workers_of(stage)
        unit = "writer" if stage in WRITER_STAGES else "decoder" if stage in DECODER_STAGES else "worker"
        place = f"{count} {unit}{'s' if count > 1 else ''}"
        name = "waiting" if stage == "wait" else stage
        per_hour, share = f"{measurement.per_hour(stage):.2f}", f"{measurement.share_of(stage):.1%}"
        lines.append((name, place, per_hour, share, EXPLANATIONS[stage]))
    return lines


def align_columns(lines: Sequence[Line]) -> str:
    """Return lines as aligned columns, with numbers aligned to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    rows = [[line[i].rjust(widths[i]) if i in (2, 3) else line[i].ljust(widths[i]) for i in range(5)] for line in lines]
    return "\n".join("  ".join(row).rstrip() for row in rows)


def format_markdown(lines: Sequence[Line]) -> str:
    """Return lines as a Markdown table."""
    header, *rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([header, "|---|---|--:|--:|---|", *rows])
