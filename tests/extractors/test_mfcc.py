"""MFCC equal the cosine transform of the log mel spectrogram."""

import numpy as np
import scipy.fft
import torch

from embedx import extractors
from embedx.extractors.melspec import LogMel
from tests.helpers.conformance import clips_for, run


def test_mfcc_is_cosine_transform_of_log_mel_and_its_slope() -> None:
    clip = clips_for(extractors.load("mfcc"))[3]
    (found,) = run(extractors.load("mfcc"), [clip])[0]
    cepstrum = scipy.fft.dct(LogMel(0.01)(clip[None])[0].double().numpy(), type=2, norm="ortho")[:, :20]
    np.testing.assert_allclose(found[:, :20], cepstrum[2:-2], atol=1e-4)
    slopes = [np.polyfit(np.arange(-2, 3), cepstrum[t - 2 : t + 3], 1)[0] for t in range(2, len(cepstrum) - 2)]
    np.testing.assert_allclose(found[:, 20:], slopes, atol=1e-4)


def test_mfcc_of_steady_tone_has_no_slope() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000, dtype=torch.float64) / 16_000).float()
    assert run(extractors.load("mfcc"), [tone])[0][0][:, 20:].abs().max() < 1e-4
