"""Packing: the frames of clips of unequal length one after the other, and attention within each clip.

A CPU computes clip by clip, so that the numbers stay in its cache. A GPU computes all clips at once, because each call
has a cost; all indices follow from the lengths, which are known on the CPU, so that it never waits for the GPU.

Letters: B clips, T frames of the longest, N frames of all, D dim, H heads, W windows.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from embedx.extractors.devices import send

FLASH = (8, 0)  # the lowest CUDA compute capability with attention over clips of unequal length


class Packing:
    """The frames of clips with `counts` frames each, for a CPU."""

    def __init__(self, counts: Sequence[int]) -> None:
        self.counts = list(counts)
        self.runs = [(len(list(same)), count) for count, same in groupby(counts)]

    def attend(self, x: Tensor, heads: int) -> Tensor:
        """Compute attention within each clip: queries, keys and values [N, 3 D] -> [N, D]."""
        out = []
        for clips in self._per_run(x):  # [b, T, 3 D]
            q, k, v = clips.view(*clips.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)  # each [b, H, T, D / H]
            attended = F.scaled_dot_product_attention(q, k, v)  # [b, H, T, D / H]
            out.append(attended.transpose(1, 2).flatten(2).flatten(0, 1))  # [b * T, D]
        return torch.cat(out)

    def unpack(self, x: Tensor) -> Tensor:
        """Map [N, D] -> [B, T, D]; the values after the end of a clip are undefined."""
        return pad_sequence(list(torch.split(x, self.counts)), batch_first=True)

    def _per_run(self, x: Tensor) -> Iterator[Tensor]:
        """Yield consecutive clips of equal length as [b, T, D], views of x [N, D]."""
        parts = torch.split(x, [clips * frames for clips, frames in self.runs])
        for part, (clips, frames) in zip(parts, self.runs, strict=True):
            yield part.view(clips, frames, -1)


class Batched(Packing):
    """The frames of clips with `counts` frames each, all computed at once, for a GPU."""

    def __init__(self, counts: Sequence[int], device: torch.device) -> None:
        super().__init__(counts)
        self.device, self.longest, self.total = device, max(counts), sum(counts)
        self.bounds = send(
            torch.tensor([0, *accumulate(counts)]), device
        )  # [B + 1]: the first frame of each clip, and the end
        self.short_bounds = self.bounds.int()
        self.sizes = self.bounds.diff()  # [B]
        self.clip, self.frame = self._number(self.sizes, self.total)  # [N]: the clip and the number of each frame
        self.is_ragged = len(self.runs) > 1  # clips of equal length need no indices
        if self.is_ragged:
            positions = torch.arange(self.longest, device=device)
            self.valid = positions < self.sizes[:, None]  # [B, T]
            last = self.sizes[:, None] - 1
            self.source = self.bounds[:-1, None] + torch.minimum(positions, last)  # [B, T]: index in [N]
        self.flash = device.type == "cuda" and torch.cuda.get_device_capability(device) >= FLASH

    def attend(self, x: Tensor, heads: int) -> Tensor:
        """Compute attention within each clip: queries, keys and values [N, 3 D] -> [N, D]."""
        if self.flash and x.dtype != torch.float32 and x.shape[1] // (3 * heads) in range(8, 257, 8):
            from torch.nn.attention.varlen import varlen_attn

            q, k, v = x.view(self.total, 3, heads, -1).unbind(1)  # each [N, H, D / H]
            ends, longest = self.short_bounds, self.longest
            attended = varlen_attn(q, k, v, ends, ends, longest, longest)  # [N, H, D / H]
            assert isinstance(attended, Tensor)
            return attended.flatten(1)
        padded = self.unpack(x).view(len(self.counts), self.longest, 3, heads, -1)
        q, k, v = padded.permute(2, 0, 3, 1, 4)  # each [B, H, T, D / H]
        attended = F.scaled_dot_product_attention(q, k, v, self.valid[:, None, None] if self.is_ragged else None)
        return self.pack(attended.transpose(1, 2).flatten(2))

    def unpack(self, x: Tensor) -> Tensor:
        """Map [N, D] -> [B, T, D]; the last frame of a clip is repeated after its end."""
        return x[self.source] if self.is_ragged else x.view(len(self.counts), self.longest, -1)

    def pack(self, x: Tensor, first: int = 0) -> Tensor:
        """Map the frames [b, T, D] of consecutive clips, from the clip number `first` on, to [n, D]."""
        if all(count == x.shape[1] for count in self.counts[first : first + len(x)]):
            return x.flatten(0, 1)
        start, end = sum(self.counts[:first]), sum(self.counts[: first + len(x)])
        index = (self.clip[start:end] - first) * x.shape[1] + self.frame[start:end]  # [n]
        return x.flatten(0, 1)[index]

    def windows(self, length: int, before: int, after: int) -> tuple[Tensor, Tensor]:
        """Cut every clip into adjacent windows from its first frame on.

        Args:
            length: frames of a window.
            before: frames that a window sees before it.
            after: frames that a window sees after it.

        Returns:
            For each window the frames that it sees [W, before + length + after] as indices in [0, N], with N where
            there is no frame; and the index of each frame [N] in the frames [W * length] of all windows.
        """
        counts = [-(-count // length) for count in self.counts]
        starts = send(torch.tensor([0, *accumulate(counts)]), self.device)
        clip, number = self._number(starts.diff(), sum(counts))  # [W]
        frame = number[:, None] * length + torch.arange(-before, length + after, device=self.device)
        is_inside = (frame >= 0) & (frame < self.sizes[clip, None])
        seen = torch.where(is_inside, self.bounds[clip, None] + frame, self.total)  # [W, before + length + after]
        return seen, starts[self.clip] * length + self.frame

    def _number(self, sizes: Tensor, total: int) -> tuple[Tensor, Tensor]:
        """Return the clip [total], and the number within the clip [total], of `sizes` [B] items of each clip."""
        clip = torch.repeat_interleave(torch.arange(len(sizes), device=self.device), sizes, output_size=total)
        return clip, torch.arange(total, device=self.device) - (sizes.cumsum(0) - sizes)[clip]
