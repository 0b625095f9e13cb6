"""Advice: what would make an extraction faster, by what was measured of it; no figure in it is a guess."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedx.bench.speed.result import Speed

GAIN = 1.10  # of a trial; less is noise
WAITING, WRITING, PADDING = 0.10, 0.50, 1.10  # shares of the time, and samples for one: more than that is too much
BUSY = 0.5  # decoders that decode and resample for less of their time are not what a model waits for
HAD = 0.8  # of the processor, where a run has it for itself
SHORT_S = 2.0  # of the clock: what is over sooner says little


def advise(speed: "Speed") -> list[str]:
    """Return sentences, what gains most first."""
    found = [
        f"{trial.option}: {trial.gain:.1f} times as fast in a trial on {trial.audio_s:.0f} s of noise, and 1 - cos of "
        f"its vectors to those without it was {trial.distance:.0e} (median)."
        for trial in sorted(speed.trials, key=lambda trial: -trial.gain)
        if trial.gain >= GAIN
    ]
    if speed.share_of("wait") > WAITING:
        found.append(f"The model waits for audio {speed.share_of('wait'):.0%} of its time. {explain_waiting(speed)}")
    if speed.backend == "reference" and speed.figures.padding > PADDING:
        found.append(
            f"Batches are padded by {speed.figures.padding:.2f}: a larger --batch-seconds, or a --window of one "
            "length for all, leaves less of it."
        )
    if speed.share_of("write") > WRITING:
        found.append(
            f"Writing takes {speed.share_of('write'):.1%} of the run. Fewer views (--layers, --pooling) and "
            "`embedx extract --store-dtype float16` are less to write; a quicker disk takes less for it."
        )
    busy = sum(speed.figures.seconds.get(stage, 0.0) for stage in ("copy", "model", "pooling"))
    if speed.device == "cpu" and speed.figures.processor_s < HAD * busy:
        found.append(
            f"Its threads computed for {busy:.1f} s and had the processor for {speed.figures.processor_s:.1f} s of it: "
            "other programs took the rest, and figures without them will be better."
        )
    if speed.figures.wall_s < SHORT_S:
        found.append(f"The run was over after {speed.figures.wall_s:.1f} s. More --seconds give steadier figures.")
    return found or [nothing(speed)]


def explain_waiting(speed: "Speed") -> str:
    """Say what keeps the audio from coming."""
    decode, resample = speed.share_of("decode"), speed.share_of("resample")
    cores = speed.machine["cores"]
    if decode + resample < BUSY:
        return (
            f"The decoders are busy only {decode + resample:.0%} of theirs: it is the beginning, before the first "
            "batches are full, or passing windows on. More of them would bring nothing."
        )
    if speed.decoders < cores:
        return f"There are {speed.decoders} decoders and {cores} cores: --workers {cores} (or auto) decodes on all."
    if resample > decode:
        return f"Most of it is resampling: recordings that are kept at {speed.sample_rate} Hz need none."
    return f"Most of it is decoding: WAV at {speed.sample_rate} Hz, mono, on a fast disk needs least of it."


def nothing(speed: "Speed") -> str:
    """Say that there is nothing to be gained, as far as is known."""
    if speed.share_of_limit is None:
        return f"Nothing that was looked at. No limit is known for {speed.model}."
    return f"Nothing that was tried: it runs at {speed.share_of_limit:.0%} of the limit."
