"""Stored windows: the samples of stored rows, decoded again from their recordings."""

import json
from collections.abc import Iterator, Sequence

from embedx.audio.decoder_pool import DECODERS
from embedx.audio.windows import Window
from embedx.recipe import Recipe
from embedx.store.records import Recording, Row


def stored_windows(recipe: Recipe, recording: Recording, rows: Sequence[Row]) -> Iterator[tuple[int, Window]]:
    """Yield (row id, window) of some rows of a recording."""
    ids = {(row.stretch, row.start_s, row.end_s, row.meta.get("channel")): row.id for row in rows}
    for stretch, (start_s, end_s) in enumerate(json.loads(recording.stretches)):
        for _, channel, window in DECODERS.read(recording.path, recipe, start_s, end_s):
            place = (stretch, window.start_s, window.end_s, channel)
            if place in ids:
                yield ids[place], window
