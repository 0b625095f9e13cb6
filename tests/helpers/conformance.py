"""Conformance tests: what every extractor promises, on every layer."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from embedx.extractors.base import Extractor

Checkpoint = Callable[[str], Path]
SECONDS = (1.0, 0.3, 5.0, 2.2, 0.98, 3.3, 0.9)
EXACT = 1e-5


def clips_for(extractor: Extractor) -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    lengths = [max(extractor.min_samples, round(s * extractor.sample_rate)) for s in SECONDS]
    return [torch.rand(n, generator=random) * (0.2 + 0.1 * i) + 0.05 for i, n in enumerate(lengths)]


@torch.inference_mode()
def run(extractor: Extractor, clips: list[Tensor], pad: int = 0, rubbish: float = 0.0) -> dict[int, list[Tensor]]:
    """Return layer -> the valid frames of each clip, run as one batch."""
    lengths = torch.tensor([len(clip) for clip in clips])
    waves = torch.full((len(clips), int(lengths.max()) + pad), rubbish)
    for wave, clip in zip(waves, clips, strict=True):
        wave[: len(clip)] = clip
    return {
        layer: [frames[i, : counts[i]] for i in range(len(clips))]
        for layer, frames, counts in extractor.frames(waves, lengths, extractor.layers)
    }


class ConformanceTests:
    """The tests. A test file subclasses this class and provides a fixture `extractor`."""

    def test_frames_have_declared_layers_dimension_and_type(self, extractor: Extractor) -> None:
        clips = clips_for(extractor)
        found = run(extractor, clips)
        assert tuple(found) == extractor.layers
        for frames in found.values():
            for one in frames:
                assert one.dtype == torch.float32
                assert one.shape[0] >= 1
                assert one.shape[1] == extractor.dim
                assert torch.isfinite(one).all()

    def test_frame_rate_equals_declared_rate(self, extractor: Extractor) -> None:
        """A frame comes every 1 / frame_rate seconds; spectrograms are cut in steps."""
        longest = extractor.max_samples or math.inf
        seconds = min(30.0, longest / extractor.sample_rate)
        waves = torch.zeros(1, round(seconds * extractor.sample_rate))
        (_, frames, counts), *_ = extractor.frames(waves, torch.tensor([waves.shape[1]]), extractor.layers[-1:])
        whole = (waves.shape[1] - extractor.min_samples) / extractor.sample_rate
        close = 0.0 if extractor.max_samples is None else 0.01
        first = run(extractor, [waves[0, : extractor.min_samples]])[extractor.layers[-1]][0]
        expected = len(first) + int(whole * extractor.frame_rate)
        assert int(counts[0]) == pytest.approx(expected, rel=close, abs=12 if close else 0)
        assert frames.shape[1] >= counts[0]

    def test_only_requested_layers_are_returned(self, extractor: Extractor) -> None:
        clips = clips_for(extractor)[:1]
        layer = extractor.layers[0]
        found = list(extractor.frames(clips[0][None], torch.tensor([len(clips[0])]), (layer,)))
        assert [one for one, _, _ in found] == [layer]

    @pytest.mark.parametrize("size", [pytest.param(2, marks=pytest.mark.long), 7])
    def test_frames_do_not_depend_on_batch_order_or_padding(self, extractor: Extractor, size: int) -> None:
        clips = clips_for(extractor)
        alone = [run(extractor, [clip]) for clip in clips]
        order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(size)).tolist()
        for first in range(0, len(order), size):
            batch = order[first : first + size]
            together = run(extractor, [clips[i] for i in batch], pad=1234)
            for layer in extractor.layers:
                for place, i in enumerate(batch):
                    difference = (together[layer][place] - alone[i][layer][0]).abs().max()
                    assert difference < EXACT * max(1.0, float(alone[i][layer][0].abs().max())), (layer, i)

    def test_batch_of_copies_gives_equal_frames(self, extractor: Extractor) -> None:
        clip = clips_for(extractor)[1]
        alone, together = run(extractor, [clip]), run(extractor, [clip] * 8, pad=777)
        for layer in extractor.layers:
            for one in together[layer]:
                torch.testing.assert_close(one, alone[layer][0], atol=EXACT, rtol=EXACT)

    def test_frames_are_repeatable(self, extractor: Extractor) -> None:
        clips = clips_for(extractor)
        first, second = run(extractor, clips), run(extractor, clips)
        for layer in extractor.layers:
            for a, b in zip(first[layer], second[layer], strict=True):
                assert torch.equal(a, b)

    def test_shortest_clip_gives_a_frame_and_silence_is_finite(self, extractor: Extractor) -> None:
        for frames in run(extractor, [torch.zeros(extractor.min_samples)]).values():
            assert 1 <= frames[0].shape[0] <= 12  # AST: the 12 tokens of one column
            assert torch.isfinite(frames[0]).all()
