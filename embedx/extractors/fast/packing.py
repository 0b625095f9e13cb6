"""packing: the frames of clips of unequal length, one clip behind the other, and attention within each.

A CPU takes clip by clip, whose numbers stay in its cache. A GPU takes all at once, because there it is calls that
cost: every index is made there from the lengths alone, which are known here, so that nothing waits for an answer.

Letters: B clips, T frames of the longest, N frames of all, D dim, H heads, W windows.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

FLASH = (8, 0)  # the oldest GPU that has attention over clips of unequal length


class Packing:
    """Frames of clips that have `counts` frames, as a CPU takes them."""

    def __init__(self, counts: Sequence[int]) -> None:
        self.counts = list(counts)
        self.runs = [(len(list(same)), count) for count, same in groupby(counts)]

    def attend(self, x: Tensor, heads: int) -> Tensor:
        """Queries, keys and values [N, 3 D] -> [N, D], each frame from those of its clip."""
        out = []
        for one in self._per_run(x):  # [b, T, 3 D]
            q, k, v = one.view(*one.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)  # each [b, H, T, D / H]
            heard = F.scaled_dot_product_attention(q, k, v)  # [b, H, T, D / H]
            out.append(heard.transpose(1, 2).flatten(2).flatten(0, 1))  # [b * T, D]
        return torch.cat(out)

    def spread(self, x: Tensor) -> Tensor:
        """[N, D] -> [B, T, D], with anything behind the end of a clip."""
        return pad_sequence(list(torch.split(x, self.counts)), batch_first=True)

    def _per_run(self, x: Tensor) -> Iterator[Tensor]:
        """Yield neighbouring clips of equal length as [b, T, D], views of x [N, D]."""
        parts = torch.split(x, [clips * frames for clips, frames in self.runs])
        for part, (clips, frames) in zip(parts, self.runs, strict=True):
            yield part.view(clips, frames, -1)


class Batched(Packing):
    """The same, all clips at once, for a GPU."""

    def __init__(self, counts: Sequence[int], device: torch.device) -> None:
        super().__init__(counts)
        self.device, self.longest, self.total = device, max(counts), sum(counts)
        self.bounds = send([0, *accumulate(counts)], device)  # [B + 1]: where each clip begins, and the end
        self.short_bounds = self.bounds.int()
        self.sizes = self.bounds.diff()  # [B]
        self.clip, self.frame = self._number(self.sizes, self.total)  # [N]: of which clip each is, and which frame
        within = torch.arange(self.longest, device=device)
        self.valid = within < self.sizes[:, None]  # [B, T]
        self.source = self.bounds[:-1, None] + torch.minimum(within, self.sizes[:, None] - 1)  # [B, T]: where in [N]
        self.flash = device.type == "cuda" and torch.cuda.get_device_capability(device) >= FLASH

    def attend(self, x: Tensor, heads: int) -> Tensor:
        """Queries, keys and values [N, 3 D] -> [N, D], each frame from those of its clip."""
        if self.flash and x.dtype != torch.float32 and x.shape[1] // (3 * heads) in range(8, 257, 8):
            from torch.nn.attention.varlen import varlen_attn

            q, k, v = x.view(self.total, 3, heads, -1).unbind(1)  # each [N, H, D / H]
            ends, most = self.short_bounds, self.longest
            heard = varlen_attn(q, k, v, ends, ends, most, most)  # [N, H, D / H]
            assert isinstance(heard, Tensor)
            return heard.flatten(1)
        padded = self.spread(x).view(len(self.counts), self.longest, 3, heads, -1)
        q, k, v = padded.permute(2, 0, 3, 1, 4)  # each [B, H, T, D / H]
        ragged = len(self.runs) > 1
        heard = F.scaled_dot_product_attention(q, k, v, self.valid[:, None, None] if ragged else None)
        return self.pack(heard.transpose(1, 2).flatten(2))

    def spread(self, x: Tensor) -> Tensor:
        """[N, D] -> [B, T, D], with the last frame of a clip behind its end."""
        return x[self.source]

    def pack(self, x: Tensor, first: int = 0) -> Tensor:
        """[b, T, D] of neighbouring clips, from the `first` on -> [n, D]."""
        begin, end = sum(self.counts[:first]), sum(self.counts[: first + len(x)])
        place = (self.clip[begin:end] - first) * x.shape[1] + self.frame[begin:end]  # [n]
        return x.flatten(0, 1)[place]

    def windows(self, length: int, before: int, after: int) -> tuple[Tensor, Tensor]:
        """Return what windows of so many frames see, and some before and after: in [0, N], N where no frame is.

        They lie on each clip side by side, from its first frame on. Also return the place of each frame in
        [W * length].
        """
        pieces = [-(-count // length) for count in self.counts]
        starts = send([0, *accumulate(pieces)], self.device)
        clip, number = self._number(starts.diff(), sum(pieces))  # [W]
        frame = number[:, None] * length + torch.arange(-before, length + after, device=self.device)
        inside = (frame >= 0) & (frame < self.sizes[clip, None])
        seen = torch.where(inside, self.bounds[clip, None] + frame, self.total)  # [W, before + length + after]
        return seen, starts[self.clip] * length + self.frame

    def _number(self, sizes: Tensor, total: int) -> tuple[Tensor, Tensor]:
        """Return for `sizes` [B] things of each clip: its clip, and its number within that. Both are [total]."""
        clip = torch.repeat_interleave(torch.arange(len(sizes), device=self.device), sizes, output_size=total)
        return clip, torch.arange(total, device=self.device) - (sizes.cumsum(0) - sizes)[clip]


def send(numbers: Sequence[int], device: torch.device) -> Tensor:
    """Return whole numbers on a device, without waiting until they are there."""
    made = torch.tensor(numbers)
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.to(device)
