"""Recipes and windows for tests of the embedder and its workers."""

import numpy as np

from embedx import extractors
from embedx.audio.windows import Window
from embedx.extractors.base import Extractor
from embedx.recipe import Recipe

SECONDS = (0.14, 3.0, 0.5, 1.0, 7.0, 0.01, 2.0, 1.5)


def recipe_of(extractor: Extractor, model: str, poolings: tuple[str, ...] = ("mean", "max", "sum")) -> Recipe:
    family, source = extractors.resolve(model)
    return Recipe(family, source, extractor.weights, extractor.sample_rate, extractor.layers, poolings)


def windows() -> list[tuple[int, Window]]:
    random = np.random.default_rng(0)
    made = [random.uniform(-0.5, 0.5, round(s * 16_000)).astype(np.float32) for s in SECONDS]
    return [(i, Window(0, len(samples) / 16_000, samples)) for i, samples in enumerate(made)]
