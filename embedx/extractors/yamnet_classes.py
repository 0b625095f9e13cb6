"""The classes of YAMNet: their names, which of them belong to a wider class, and YAMNet as a classifier.

The names come with the weights (`yamnet_class_map.csv` of the release), in the order of AudioSet's ontology (Gemmeke et
al. 2017; github.com/audioset/ontology). The release does not have the ontology, where a bark is a sound of a dog:
`MEMBERS` and `FAR_MEMBERS` hold it as places in that order. All 521 classes were compared with its `ontology.json`
(commit 1e85b88); 119 of them have members. A member that YAMNet has no class for is replaced by its own members.
"""

import csv
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedx.errors import ModelError, UsageError
from embedx.extractors.classifier import LABEL
from embedx.extractors.melspec import FRAME_RATE, PATCH_SAMPLES, SAMPLE_RATE
from embedx.extractors.weight_files import find_weights
from embedx.extractors.yamnet import CLASSES, HOP, YAMNet

NAMES_FILE = "yamnet_class_map.csv"
# Class -> the first and the last of its members, which stand one after the other in the order of the release.
MEMBERS = {
    "Speech": ("Child speech, kid speaking", "Speech synthesizer"),
    "Shout": ("Bellow", "Children shouting"),
    "Laughter": ("Baby laughter", "Chuckle, chortle"),
    "Crying, sobbing": ("Baby cry, infant cry", "Whimper"),
    "Singing": ("Choir", "Rapping"),
    "Chant": ("Mantra", "Mantra"),
    "Breathing": ("Wheeze", "Snort"),
    "Cough": ("Throat clearing", "Throat clearing"),
    "Hands": ("Finger snapping", "Clapping"),
    "Heart sounds, heartbeat": ("Heart murmur", "Heart murmur"),
    "Animal": ("Domestic animals, pets", "Whale vocalization"),
    "Domestic animals, pets": ("Dog", "Caterwaul"),
    "Dog": ("Bark", "Whimper (dog)"),
    "Cat": ("Purr", "Caterwaul"),
    "Livestock, farm animals, working animals": ("Horse", "Honk"),
    "Horse": ("Clip-clop", "Neigh, whinny"),
    "Cattle, bovinae": ("Moo", "Cowbell"),
    "Pig": ("Oink", "Oink"),
    "Goat": ("Bleat", "Bleat"),
    "Fowl": ("Chicken, rooster", "Honk"),
    "Chicken, rooster": ("Cluck", "Crowing, cock-a-doodle-doo"),
    "Turkey": ("Gobble", "Gobble"),
    "Duck": ("Quack", "Quack"),
    "Goose": ("Honk", "Honk"),
    "Wild animals": ("Roaring cats (lions, tigers)", "Whale vocalization"),
    "Roaring cats (lions, tigers)": ("Roar", "Roar"),
    "Bird": ("Bird vocalization, bird call, bird song", "Bird flight, flapping wings"),
    "Bird vocalization, bird call, bird song": ("Chirp, tweet", "Squawk"),
    "Pigeon, dove": ("Coo", "Coo"),
    "Crow": ("Caw", "Caw"),
    "Owl": ("Hoot", "Hoot"),
    "Rodents, rats, mice": ("Mouse", "Patter"),
    "Insect": ("Cricket", "Bee, wasp, etc."),
    "Fly, housefly": ("Buzz", "Buzz"),
    "Frog": ("Croak", "Croak"),
    "Snake": ("Rattle", "Rattle"),
    "Music": ("Musical instrument", "Scary music"),
    "Musical instrument": ("Plucked string instrument", "Scratching (performance technique)"),
    "Plucked string instrument": ("Guitar", "Ukulele"),
    "Guitar": ("Electric guitar", "Strum"),
    "Keyboard (musical)": ("Piano", "Harpsichord"),
    "Piano": ("Electric piano", "Electric piano"),
    "Organ": ("Electronic organ", "Hammond organ"),
    "Synthesizer": ("Sampler", "Sampler"),
    "Percussion": ("Drum kit", "Steelpan"),
    "Drum kit": ("Drum machine", "Drum machine"),
    "Drum": ("Snare drum", "Tabla"),
    "Snare drum": ("Rimshot", "Drum roll"),
    "Cymbal": ("Hi-hat", "Hi-hat"),
    "Rattle (instrument)": ("Maraca", "Maraca"),
    "Mallet percussion": ("Marimba, xylophone", "Steelpan"),
    "Brass instrument": ("French horn", "Trombone"),
    "Bowed string instrument": ("String section", "Double bass"),
    "Violin, fiddle": ("Pizzicato", "Pizzicato"),
    "Wind instrument, woodwind instrument": ("Flute", "Clarinet"),
    "Bell": ("Church bell", "Change ringing (campanology)"),
    "Chime": ("Wind chime", "Wind chime"),
    "Hip hop music": ("Beatboxing", "Beatboxing"),
    "Rock music": ("Heavy metal", "Psychedelic rock"),
    "Country": ("Swing music", "Bluegrass"),
    "Classical music": ("Opera", "Opera"),
    "Electronic music": ("House music", "Trance music"),
    "Music of Latin America": ("Salsa music", "Flamenco"),
    "Vocal music": ("A capella", "A capella"),
    "Music of Africa": ("Afrobeat", "Afrobeat"),
    "Christian music": ("Gospel music", "Gospel music"),
    "Music of Asia": ("Carnatic music", "Music of Bollywood"),
    "Wind": ("Rustling leaves", "Wind noise (microphone)"),
    "Thunderstorm": ("Thunder", "Thunder"),
    "Water": ("Rain", "Gurgling"),
    "Rain": ("Raindrop", "Rain on surface"),
    "Ocean": ("Waves, surf", "Waves, surf"),
    "Fire": ("Crackle", "Crackle"),
    "Vehicle": ("Boat, Water vehicle", "Skateboard"),
    "Boat, Water vehicle": ("Sailboat, sailing ship", "Ship"),
    "Motor vehicle (road)": ("Car", "Traffic noise, roadway noise"),
    "Car": ("Vehicle horn, car horn, honking", "Race car, auto racing"),
    "Vehicle horn, car horn, honking": ("Toot", "Toot"),
    "Truck": ("Air brake", "Ice cream truck, ice cream van"),
    "Emergency vehicle": ("Police car (siren)", "Fire engine, fire truck (siren)"),
    "Rail transport": ("Train", "Subway, metro, underground"),
    "Train": ("Train whistle", "Train horn"),
    "Aircraft": ("Aircraft engine", "Fixed-wing aircraft, airplane"),
    "Aircraft engine": ("Jet engine", "Propeller, airscrew"),
    "Engine": ("Light engine (high frequency)", "Accelerating, revving, vroom"),
    "Light engine (high frequency)": ("Dental drill, dentist's drill", "Chainsaw"),
    "Door": ("Doorbell", "Squeak"),
    "Doorbell": ("Ding-dong", "Ding-dong"),
    "Toothbrush": ("Electric toothbrush", "Electric toothbrush"),
    "Typing": ("Typewriter", "Computer keyboard"),
    "Alarm": ("Telephone", "Steam whistle"),
    "Telephone": ("Telephone bell ringing", "Busy signal"),
    "Siren": ("Civil defense siren", "Civil defense siren"),
    "Whistle": ("Steam whistle", "Steam whistle"),
    "Mechanisms": ("Ratchet, pawl", "Single-lens reflex camera"),
    "Clock": ("Tick", "Tick-tock"),
    "Camera": ("Single-lens reflex camera", "Single-lens reflex camera"),
    "Tools": ("Hammer", "Drill"),
    "Power tool": ("Drill", "Drill"),
    "Explosion": ("Gunshot, gunfire", "Boom"),
    "Gunshot, gunfire": ("Machine gun", "Cap gun"),
    "Fireworks": ("Firecracker", "Firecracker"),
    "Wood": ("Chop", "Crack"),
    "Glass": ("Chink, clink", "Shatter"),
    "Liquid": ("Splash, splatter", "Boiling"),
    "Splash, splatter": ("Slosh", "Slosh"),
    "Pour": ("Trickle, dribble", "Gush"),
    "Arrow": ("Whoosh, swoosh, swish", "Thunk"),
    "Thump, thud": ("Thunk", "Thunk"),
    "Effects unit": ("Chorus effect", "Chorus effect"),
    "Clicking": ("Clickety-clack", "Clickety-clack"),
    "Sine wave": ("Harmonic", "Chirp tone"),
    "Noise": ("Environmental noise", "Vibration"),
}

FAR_MEMBERS = {  # members that stand elsewhere
    "Cat": ("Growling",),
    "Sheep": ("Bleat",),
    "Roaring cats (lions, tigers)": ("Growling",),
    "Canidae, dogs, wolves": ("Howl", "Growling"),
    "Bee, wasp, etc.": ("Buzz",),
    "Snake": ("Hiss",),
    "Musical instrument": ("Choir",),
    "Percussion": ("Cowbell",),
    "Bell": ("Cowbell",),
    "Vocal music": ("Chant", "Beatboxing"),
    "Steam": ("Hiss",),
    "Bicycle": ("Bicycle bell",),
    "Engine": ("Jet engine",),
    "Alarm": ("Doorbell", "Car alarm", "Vehicle horn, car horn, honking", "Bicycle bell", "Air horn, truck horn"),
    "Siren": ("Police car (siren)", "Ambulance (siren)", "Fire engine, fire truck (siren)"),
    "Drill": ("Dental drill, dentist's drill",),
    "Clicking": ("Tick", "Clip-clop"),
    "Noise": ("Hubbub, speech noise, speech babble",),
}


def read_names(source: str = "") -> tuple[str, ...]:
    """Return the 521 names of the classes, from the file beside the weights.

    Args:
        source: the weights file or its folder, as `embedx.extractors.yamnet.load` takes it.

    Raises:
        ModelError: there is no such file beside the weights, or it does not hold 521 names.
    """
    weights = find_weights("yamnet", source)
    file = Path(NAMES_FILE) if weights is None else weights.parent / NAMES_FILE
    try:
        with file.open(encoding="utf-8", newline="") as table:
            names = tuple(row["display_name"] for row in csv.DictReader(table))
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise ModelError(
            f"The names of YAMNet's classes cannot be read from {file}. Put {NAMES_FILE} of the release beside the "
            "weights."
        ) from error
    if len(names) != CLASSES or not all(names):
        raise ModelError(f"{file} has {len(names)} names, but YAMNet has {CLASSES} classes.")
    return names


def find_classes(names: tuple[str, ...], text: str) -> list[int]:
    """Return the numbers of the classes that a text names: one, or one with its members (see `MEMBERS`).

    The text is a name of the release, or one of the names between its commas; case and underscores do not matter.

    >>> find_classes(("Speech", "Chicken, rooster", "Cluck", "Crowing, cock-a-doodle-doo"), "rooster")
    [1, 2, 3]

    Raises:
        UsageError: no class has this name.
    """
    wanted = simplify(text)
    numbers = [i for i, name in enumerate(names) if simplify(name) == wanted]
    numbers = numbers or [i for i, name in enumerate(names) if wanted in map(simplify, name.split(","))]
    if not numbers:
        parts = {simplify(part): part.strip() for name in names for part in (name, *name.split(","))}
        close = [parts[match] for match in difflib.get_close_matches(wanted, parts, n=3)]
        hint = f" Similar names: {'; '.join(close)}." if close else ""
        raise UsageError(f"YAMNet has no class {text!r}.{hint} {NAMES_FILE} beside its weights lists all names.")
    return sorted(add_members(names, numbers))


def add_members(names: tuple[str, ...], numbers: Sequence[int]) -> set[int]:
    """Return the numbers of classes with those of all their members."""
    found: set[int] = set()
    waiting = list(numbers)
    while waiting:
        number = waiting.pop()
        if number in found:
            continue
        found.add(number)
        ends = MEMBERS.get(names[number])
        if ends is not None and set(ends) <= set(names):
            waiting += range(names.index(ends[0]), names.index(ends[1]) + 1)
        waiting += [names.index(name) for name in FAR_MEMBERS.get(names[number], ()) if name in names]
    return found


def simplify(name: str) -> str:
    """Return a name in lower case with single spaces.

    >>> simplify(" Sea_Waves ")
    'sea waves'
    """
    return " ".join(name.replace("_", " ").split()).lower()


def last_layer(extractor: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights [521, 1024] and the bias [521] of the classifier of a `YAMNet`."""
    layer = extractor.network.fc
    return layer.weight.detach().cpu().double().numpy(), layer.bias.detach().cpu().double().numpy()


class YamnetClassifier:
    """The scores of YAMNet's 521 classes: the mean over the patches of a clip, as in the release."""

    multi_label = frozenset({LABEL})
    max_samples: int | None = None
    layers = (0,)
    max_window_s = PATCH_SAMPLES / SAMPLE_RATE + HOP / FRAME_RATE  # two patches: the mean of their scores is not stored

    def __init__(self, extractor: YAMNet, names: tuple[str, ...]) -> None:
        self.extractor = extractor
        self.outputs = {LABEL: names}
        self.sample_rate, self.min_samples = extractor.sample_rate, extractor.min_samples
        self.weights = self.encoder_weights = extractor.weights

    def scores(self, waves: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the scores [B, 521]; see `Classifier.scores`."""
        ((_, frames, counts),) = self.extractor.frames(waves, lengths, (0,))
        scores = self.extractor.scores(frames).float()
        valid = torch.arange(scores.shape[1], device=scores.device) < counts[:, None]
        return {LABEL: scores.masked_fill(~valid[..., None], 0.0).sum(dim=1) / counts[:, None]}

    @torch.inference_mode()
    def vector_scores(self, means: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Return the scores [N, 521] of vectors of one patch each; see `VectorClassifier`."""
        return {LABEL: self.extractor.scores(torch.from_numpy(np.ascontiguousarray(means[0]))).numpy()}

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        self.extractor.to(device)
        return self
