"""The log-mel front end of VGGish, YAMNet and the extractors without weights.

It follows the AudioSet release (Hershey et al. 2017): 25 ms frames every 10 ms, periodic Hann window, magnitude
spectrum, 64 HTK mel bands from 125 to 7500 Hz, natural logarithm. Frames are not padded or centred: frame t depends on
the samples [160 t, 160 t + 400) only, so the padding of a batch cannot affect a valid frame.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

SAMPLE_RATE = 16_000
FRAME = 400  # samples: 25 ms
HOP = 160  # samples: 10 ms
FRAME_RATE = SAMPLE_RATE / HOP  # 100 frames per second
FFT = 512  # the next power of two above FRAME
BANDS = 64
LOW_HZ, HIGH_HZ = 125.0, 7500.0
PATCH = 96  # frames: 0.96 s, the input of the networks
PATCH_SAMPLES = (PATCH - 1) * HOP + FRAME  # 15 600 samples: the shortest clip with a full patch


def hertz_to_mel(hertz: Tensor) -> Tensor:
    """Return frequencies on the HTK mel scale, 1127 ln(1 + f / 700).

    >>> hertz_to_mel(torch.tensor([0.0, 1000.0]))
    tensor([  0.0000, 999.9907])
    """
    return 1127.0 * torch.log1p(hertz / 700.0)


def mel_filters() -> Tensor:
    """Return triangular filters [257, 64], linear in mel, with peak 1 and no area normalisation; the DC bin is zero."""
    bins = hertz_to_mel(torch.arange(FFT // 2 + 1, dtype=torch.float64) * SAMPLE_RATE / FFT)[:, None]
    low, high = hertz_to_mel(torch.tensor([LOW_HZ, HIGH_HZ], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, BANDS + 2, dtype=torch.float64)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    triangles = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0.0)
    triangles[0] = 0.0
    return triangles.float()


def hann() -> Tensor:
    """Return the periodic Hann window [400] in float64, 0.5 - 0.5 cos(2 pi n / 400)."""
    n = torch.arange(FRAME, dtype=torch.float64)
    return 0.5 - 0.5 * torch.cos(2 * math.pi * n / FRAME)


class LogMel(torch.nn.Module):
    """Waves [B, S] at 16 kHz -> log-mel [B, F, 64] with F = 1 + (S - 400) // 160.

    `offset` is added before the logarithm: 0.01 for VGGish, 0.001 for YAMNet.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = offset
        self.register_buffer("window", hann(), persistent=False)
        self.register_buffer("filters", mel_filters(), persistent=False)

    def forward(self, waves: Tensor) -> Tensor:
        """Compute the log-mel spectrum.

        The FFT is in float64: with a loud tone, the rounding error of float32 in a quiet band would be visible after
        the logarithm (4e-4).
        """
        with torch.autocast(waves.device.type, enabled=False):
            frames = waves.double().unfold(-1, FRAME, HOP) * self.window
            magnitudes = torch.fft.rfft(frames, n=FFT).abs().float()
            return torch.log(magnitudes @ self.filters + self.offset)


def patches(logmel: Tensor, hop: int) -> Tensor:
    """Cut log-mel [B, F, 64] into patches [B, P, 96, 64] that start every `hop` frames.

    >>> patches(torch.zeros(1, 498, 64), hop=48).shape
    torch.Size([1, 9, 96, 64])
    """
    return logmel.unfold(1, PATCH, hop).transpose(2, 3)


def run_valid(network: Callable[[Tensor], Tensor], patch: Tensor, counts: Tensor) -> Tensor:
    """Run a network on the valid patches of each clip.

    A GPU runs it on all patches: the program would have to wait for the GPU to learn how many are valid. In a batch of
    clips of similar length, few are not.

    Args:
        network: maps patches [N, 96, 64] to [N, D].
        patch: patches [B, P, 96, 64].
        counts: number of valid patches of each clip [B].

    Returns:
        The results [B, P, D] in float32, zero for patches that are not valid.

    >>> run_valid(lambda p: p.mean(dim=2), torch.ones(2, 3, 96, 64), torch.tensor([3, 1]))[:, :, 0]
    tensor([[1., 1., 1.],
            [1., 0., 0.]])
    """
    valid = torch.arange(patch.shape[1], device=patch.device) < counts[:, None]  # [B, P]
    if not patch.is_cpu:
        return network(patch.flatten(0, 1)).float().view(*valid.shape, -1).masked_fill(~valid[..., None], 0.0)
    results = network(patch[valid]).float()
    frames = results.new_zeros(*valid.shape, results.shape[-1])
    frames[valid] = results
    return frames


def count_patches(lengths: Tensor, hop: int) -> Tensor:
    """Return the number of full patches in clips of `lengths` samples [B].

    >>> count_patches(torch.tensor([15_600, 80_016]), hop=48)
    tensor([1, 9])
    """
    frames = 1 + (lengths - FRAME) // HOP
    return 1 + (frames - PATCH) // hop
