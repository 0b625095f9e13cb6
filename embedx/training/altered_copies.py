"""Altered copies of training rows: their audio is decoded again, altered and embedded, for a head to train on.

A copy belongs to the group of its row. It is trained on only where its row is, and nothing is tested or chosen by it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedx.audio.augmentation import ALTERATIONS, Augmentation, augmentation_generator
from embedx.audio.decoder_pool import DECODERS
from embedx.audio.windows import Window
from embedx.embedding.stored_windows import stored_windows
from embedx.errors import AudioError, UsageError
from embedx.evaluation.cross_validation import Copies, Experiment
from embedx.filesystem.paths import display_path
from embedx.store.records import group_by_path
from embedx.store.store import Store

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

MAX_COPIES = 1000  # of each row; more are a mistake
DEFAULT = "noise,pitch,stretch,shift,gain"


@dataclass(frozen=True)
class CopyOptions:
    """How many altered copies of each training row a head is trained on, and how they are altered.

    Attributes:
        number: copies of each row, 0 to 1000.
        augmentation: names such as "noise,pitch", or a TOML file; see `embedx.audio.augmentation`. "mixup" does not go,
            because it makes copies of two rows.

    Raises:
        UsageError: an invalid value, or an alteration that does not exist.
    """

    number: int = 0
    augmentation: str = DEFAULT

    def __post_init__(self) -> None:
        if isinstance(self.number, bool) or not isinstance(self.number, int) or not 0 <= self.number <= MAX_COPIES:
            raise UsageError(
                f"augment is the number of altered copies of each row, 0 to {MAX_COPIES}, not {self.number!r}."
            )
        kinds = self.read().kinds
        if "mixup" in kinds or not any(settings["p"] for settings in kinds.values()):
            raise UsageError(
                f"The copies of a row can be altered by {', '.join(ALTERATIONS)}, one of them with p above 0; not by "
                f"{self.augmentation}. mixup is for `embedx finetune`: it makes a clip of two, with the labels of both."
            )

    @classmethod
    def from_keywords(cls, augment: int, augment_with: str | None) -> Self:
        """Return the options of `Collection.fit_head`; raise UsageError for a way to alter no copies."""
        if augment_with is not None and not augment:
            raise UsageError("augment_with (--augment-with) needs a number of copies: augment (--augment).")
        return cls(augment, DEFAULT if augment_with is None else augment_with)

    def read(self) -> Augmentation:
        """Return the alterations with their settings."""
        return Augmentation.from_option(self.augmentation)


NO_COPIES = CopyOptions()


def add_copies(
    experiment: Experiment, store: Store, load_embedder: "Callable[[], Embedder]", options: CopyOptions, seed: int
) -> Experiment:
    """Return the experiment with altered copies of the rows that some part trains on.

    Args:
        experiment: rows and split.
        store: the store of the collection.
        load_embedder: returns the embedder of the collection.
        options: how many copies, and how they are altered.
        seed: with the id of a row and the number of a copy, it determines the copy.

    Raises:
        UsageError: the audio of a row is missing, or has changed since it was embedded.
        ModelError: the model of the collection is missing.
    """
    if not options.number:
        return experiment
    trained = np.unique(np.concatenate([part.train for part in experiment.splits.parts]))
    position = {experiment.rows[i].id: int(i) for i in trained}
    embedder, augmentation = load_embedder(), options.read()
    limit = embedder.extractor.max_samples

    def altered() -> Iterator[tuple[tuple[int, int], Window]]:
        for row, window in read_rows(experiment, store, embedder, trained):
            for copy in range(options.number):
                generator = augmentation_generator(seed, row, copy)
                samples = augmentation.clip(window.samples, embedder.recipe.sample_rate, generator, altered=True)
                yield (row, copy), replace(window, samples=samples[:limit])

    found: dict[tuple[int, int], Any] = {}
    for key, vectors, _ in embedder.embed(altered()):
        views = [vectors[view] for view in experiment.views]
        found[key] = views[0] if len(views) == 1 else np.stack(views)
    keys = sorted(found)
    x = np.stack([found[key] for key in keys]).astype(np.float32)
    return replace(experiment, copies=Copies(x, np.array([position[row] for row, _ in keys], np.int64)))


def read_rows(
    experiment: Experiment, store: Store, embedder: "Embedder", positions: np.ndarray[Any, np.dtype[np.int64]]
) -> Iterator[tuple[int, Window]]:
    """Yield (row id, window) of some rows, decoded from the recordings that they were embedded from."""
    recordings = store.recordings()
    for path, rows in group_by_path(experiment.rows[i] for i in positions).items():
        missing = {row.id for row in rows}
        try:
            if DECODERS.hash_content(path) == recordings[path].content_hash:
                for row, window in stored_windows(embedder.recipe, recordings[path], rows):
                    missing.discard(row)
                    yield row, window
        except AudioError as error:
            raise UsageError(f"No altered copies can be made, because the audio is needed: {error}") from error
        if missing:
            raise UsageError(
                f"No altered copies can be made: {display_path(path)} has changed since it was embedded. Run "
                "`embedx extract` again, or train without --augment (augment=)."
            )
