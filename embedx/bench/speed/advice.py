"""Advice: what would make an extraction faster. Every sentence follows from a measured figure."""

from embedx.bench.speed.result import Measurement

GAIN_THRESHOLD = 1.10  # times as fast; a smaller gain of a trial is noise
WAITING_THRESHOLD = 0.10  # fraction of the model's time that it waits for audio
WRITING_THRESHOLD = 0.50  # fraction of the run in which the store is written
PADDING_THRESHOLD = 1.10  # computed samples per sample of audio
DECODING_THRESHOLD = 0.5  # decoders that are busy for a smaller fraction of their time do not delay the model
PROCESSOR_THRESHOLD = 0.8  # processor time / busy time; lower values mean that other programs were running
MIN_RUN_S = 2.0  # the figures of a shorter run are not reliable


def advise(measurement: Measurement) -> list[str]:
    """Return sentences on what would make a run faster; trials come first, the largest gain before the others."""
    figures, share_of = measurement.figures, measurement.share_of
    sentences = [
        f"{trial.option}: {trial.gain:.1f} times as fast in a trial on {trial.audio_s:.0f} s of noise. The median "
        f"cosine distance between its vectors and those without the option is {trial.distance:.0e}."
        for trial in sorted(measurement.trials, key=lambda trial: -trial.gain)
        if trial.gain >= GAIN_THRESHOLD
    ]
    if share_of("wait") > WAITING_THRESHOLD:
        sentences.append(f"The model waits for audio {share_of('wait'):.0%} of its time. {explain_wait(measurement)}")
    if measurement.backend == "reference" and figures.padding > PADDING_THRESHOLD:
        sentences.append(
            f"Batches are padded by a factor of {figures.padding:.2f}. A larger --batch-seconds, or a fixed --window, "
            "reduces the padding."
        )
    if share_of("write") > WRITING_THRESHOLD:
        sentences.append(
            f"Writing takes {share_of('write'):.1%} of the run. Store fewer views (--layers, --pooling), use `embedx "
            "extract --store-dtype float16`, or write to a faster disk."
        )
    busy_s = sum(figures.seconds.get(stage, 0.0) for stage in ("copy", "model", "pooling"))
    if measurement.device == "cpu" and figures.processor_s < PROCESSOR_THRESHOLD * busy_s:
        sentences.append(
            f"The model's threads were busy for {busy_s:.1f} s but got only {figures.processor_s:.1f} s of processor "
            "time: other programs used the rest. Measure again without them."
        )
    if figures.wall_s < MIN_RUN_S:
        sentences.append(f"The run took only {figures.wall_s:.1f} s. Use a larger --seconds for more reliable figures.")
    return sentences or [explain_no_advice(measurement)]


def explain_wait(measurement: Measurement) -> str:
    """Say why the model has to wait for audio."""
    decode, resample = measurement.share_of("decode"), measurement.share_of("resample")
    cores = measurement.machine["cores"]
    if decode + resample < DECODING_THRESHOLD:
        return (
            f"The decoders are busy only {decode + resample:.0%} of their time, so more decoders would not help: the "
            "wait is at the start, before the first batches are full, or in passing windows to the model."
        )
    if measurement.decoders < cores:
        return f"Only {measurement.decoders} of {cores} cores decode audio: use --workers {cores} (or auto)."
    if resample > decode:
        return (
            f"Most of the decoders' time is resampling. Recordings stored at {measurement.sample_rate} Hz need no "
            "resampling."
        )
    return (
        f"Most of the decoders' time is decoding. Mono WAV at {measurement.sample_rate} Hz on a fast disk is the "
        "fastest to decode."
    )


def explain_no_advice(measurement: Measurement) -> str:
    """Say that nothing faster was found."""
    if measurement.share_of_limit is None:
        return f"No faster option was found. The limit for {measurement.model} is not known."
    return f"No faster option was found. The run reaches {measurement.share_of_limit:.0%} of the limit."
