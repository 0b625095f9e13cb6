"""Planted: sounds in files, some with copies in other forms -> rows that `probe` says look alike, and the copies."""

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
from numpy.typing import NDArray

import embedx
from embedx.copies.finder import CopyFinder
from embedx.evaluation.cross_validation import Experiment, build_experiment
from embedx.evaluation.splits import SplitOptions
from embedx.evaluation.targets import LabelOptions
from embedx.index.vectors import unit
from embedx.store.store import Store

FORMS = ("exact", "MP3", "Ogg", "6 dB quieter", "8 % noise")
SUBTYPES = {"MP3": "MPEG_LAYER_III", "Ogg": "VORBIS"}
SHARED = Path(os.environ.get("EMBEDX_SHARED", Path(__file__).parents[3] / "shared"))
YAMNET = SHARED / "weights/yamnet/yamnet.safetensors"
Wave = NDArray[np.floating]
Name = Callable[[Path], str]
# Name -> pattern of the files, the class of a file, and the recording that it was cut from.
REAL_SETS: dict[str, tuple[str, Name, Name]] = {
    "FSDD": ("fsdd/recordings/*.wav", lambda path: path.stem[0], lambda path: path.stem),
    "ESC-10": ("esc10/audio/*.ogg", lambda path: path.stem.split("-")[3], lambda path: path.stem.split("-")[1]),
    "LibriSpeech": ("librispeech/**/*.flac", lambda path: path.parent.name[-1], lambda path: path.stem),
}


@dataclass(frozen=True)
class Sound:
    """A recording: its samples [S], rate in Hz, and class."""

    samples: Wave
    rate: int
    label: str


@dataclass(frozen=True)
class Flags:
    """The rows of a collection: their form ("" for the first file of a sound), and what was found.

    Attributes:
        form: [N] the form of a copy; "" for an original.
        has_copy: [N] whether another row of the same sound is on the other side of the split.
        is_alone: [N] whether no other row has the same sound.
        flagged: [N] whether the row is said to look like a row on the other side.
        by_vector: [N] the same, without the audio.
    """

    form: NDArray[np.str_]
    has_copy: NDArray[np.bool_]
    is_alone: NDArray[np.bool_]
    flagged: NDArray[np.bool_]
    by_vector: NDArray[np.bool_]


def flag_copies(sounds: Sequence[Sound], copied: int, copies: int, model: str, random: np.random.Generator) -> Flags:
    """Write sounds, and copies of the first of them, to files; embed them, split them into folds, and find copies.

    Args:
        sounds: independent recordings.
        copied: how many of them have copies.
        copies: how many each of these has; forms take turns.
        model: the model that embeds them.
        random: for the noise.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        forms: dict[str, str] = {}
        with (folder / "rows.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["path", "label"])
            for i, sound in enumerate(sounds):
                for j in range(1 + copies * (i < copied)):
                    form = FORMS[(i + j) % len(FORMS)] if j else ""
                    path = folder / f"{i}-{j}.{'mp3' if form == 'MP3' else 'ogg' if form == 'Ogg' else 'wav'}"
                    samples, subtype = change(sound, form, random), SUBTYPES.get(form, "PCM_16")
                    soundfile.write(path, samples, sound.rate, subtype=subtype)
                    forms[path.name] = form
                    table.writerow([path.name, sound.label])
        embedx.extract(folder / "rows.csv", model=model, out=folder / "index").close()
        with Store(folder / "index") as store:
            experiment = build_experiment(store, [store.recipe.default_view], LabelOptions(), SplitOptions())
            by_vector = find_by_vector(store, experiment)
    names = [Path(row.path).name for row in experiment.rows]
    source, side = np.array([name.split("-")[0] for name in names]), experiment.splits.tested_in()
    same = source[:, None] == source
    rows = np.arange(len(names))
    return Flags(
        np.array([forms[name] for name in names]),
        (same & (side[:, None] != side)).any(axis=1),
        same.sum(axis=1) == 1,
        np.isin(rows, experiment.overlap.positions),
        np.isin(rows, by_vector),
    )


def find_by_vector(store: Store, experiment: Experiment) -> list[int]:
    """Return the rows that look alike by their vectors, as if the files were gone."""
    x, splits = experiment.x, experiment.splits
    gone = {path: replace(recording, size=None) for path, recording in store.recordings().items()}
    scaled = unit((x - x.mean(axis=0)) / (x.std(axis=0) + np.float32(1e-12)))
    strata = experiment.targets.strata()
    finder = CopyFinder(gone, store.recipe, experiment.rows, scaled, splits.groups, strata)
    return [copy.row for copy in finder.find([(part.test, part.learned) for part in splits.parts])]


def change(sound: Sound, form: str, random: np.random.Generator) -> Wave:
    """Return the samples of a copy; those of MP3 and Ogg change when they are written."""
    wave = sound.samples
    if form == "8 % noise":
        return np.asarray(wave + 0.08 * np.sqrt((wave**2).mean()) * random.standard_normal(len(wave)))
    return np.asarray(wave / 2 if form == "6 dB quieter" else wave)


def read_real(name: str, number: int, random: np.random.Generator) -> list[Sound]:
    """Return sounds of a real data set, each from another recording; an empty list if the set is not there."""
    pattern, label, source = REAL_SETS[name]
    files = {source(path): path for path in sorted((SHARED / "data").glob(pattern))}
    sounds = []
    for chosen in random.permutation(sorted(files))[:number].tolist():
        samples, rate = soundfile.read(files[chosen], dtype="float32")
        sounds.append(Sound(samples, rate, label(files[chosen])))
    return sounds
