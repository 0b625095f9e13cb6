"""HeadModule: a head as a torch module. Its arrays are float32 buffers, so that they move and are exported with it."""

import numpy as np
import torch
from torch import Tensor, nn

from embedx.errors import UsageError
from embedx.heads.calibration import find_ramps
from embedx.heads.fitted import FittedHead
from embedx.heads.inference import MIN_DISTANCE, MIN_PROBABILITY, NEGATIVE_VOTES, POSITIVE_VOTES, PRIOR
from embedx.heads.preprocessing import Array


class HeadModule(nn.Module):
    """Vectors [N, D], or [N, L, D] for weighted-layers -> probabilities [N, C].

    Args:
        head: the head.
        calibrated: return calibrated probabilities.

    Raises:
        UsageError: calibrated probabilities without a calibration.
    """

    def __init__(self, head: FittedHead, calibrated: bool = False) -> None:
        super().__init__()
        self.multilabel = head.multilabel
        self.steps = int(head.settings["steps"])
        self.k = min(int(head.settings.get("k", 0)), len(head.arrays.get("vectors", ())))
        self.by_distance = head.settings.get("weights") == "distance"
        for name, array in float32_arrays(head, calibrated).items():
            self.register_buffer(buffer_name(name), torch.tensor(array))

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities [N, C]."""
        for place in range(self.steps):
            x = self._step(f"step{place}.", x)
        if self._has("vectors"):
            logits = self._vote(x)
        else:
            if self._has("mixture"):
                x = torch.einsum("nld,l->nd", x, self._get("mixture"))
            if self._has("hidden.weight"):
                x = nn.functional.linear(x, self._get("hidden.weight"), self._get("hidden.bias")).relu()
            logits = nn.functional.linear(x, self._get("weight"), self._get("bias"))
        if self._has("temperature"):
            logits = logits / self._get("temperature")
        if not self._has("ramps.first"):
            return logits.sigmoid() if self.multilabel else logits.softmax(dim=1)
        logits = logits.double()
        return self._follow_curves(logits.sigmoid() if self.multilabel else logits.softmax(dim=1)).float()

    def _follow_curves(self, proba: Tensor) -> Tensor:
        share = ((proba[:, :, None] - self._get("ramps.start")) / self._get("ramps.width")).clamp(0, 1)
        proba = self._get("ramps.first") + (share * self._get("ramps.rise")).sum(dim=2)
        return proba if self.multilabel else proba / proba.sum(dim=1, keepdim=True)

    def _step(self, start: str, x: Tensor) -> Tensor:
        if not self._has(start + "mean"):
            lengths = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            return x / torch.where(lengths == 0, 1, lengths)
        x = x - self._get(start + "mean") - self._get(start + "rest")
        if self._has(start + "components"):
            x = nn.functional.linear(x, self._get(start + "components"))
        return x / self._get(start + "scale") if self._has(start + "scale") else x

    def _vote(self, x: Tensor) -> Tensor:
        similarity, nearest = (x @ self._get("vectors").T).topk(self.k, dim=1)
        weight = 1 / (1 - similarity).clamp(min=MIN_DISTANCE) if self.by_distance else torch.ones_like(similarity)
        positive = torch.einsum("nk,nkc->nc", weight, self._get(POSITIVE_VOTES)[nearest])
        if not self.multilabel:
            return self._smooth(positive / positive.sum(dim=1, keepdim=True)).log()
        negative = torch.einsum("nk,nkc->nc", weight, self._get(NEGATIVE_VOTES)[nearest])
        total = positive + negative
        return self._smooth(positive / total).log() - self._smooth(negative / total, against=True).log()

    def _smooth(self, shares: Tensor, against: bool = False) -> Tensor:
        if not self._has(PRIOR):
            return shares.clamp(min=MIN_PROBABILITY)
        prior = 1 - self._get(PRIOR) if against else self._get(PRIOR)
        return (self.k * shares + prior) / (self.k + 1)

    def _has(self, name: str) -> bool:
        return buffer_name(name) in self._buffers

    def _get(self, name: str) -> Tensor:
        return self.get_buffer(buffer_name(name))


def buffer_name(name: str) -> str:
    """Return an array name without dots, which torch does not allow in names of buffers.

    >>> buffer_name("step0.mean")
    'step0_mean'
    """
    return name.replace(".", "_")


def float32_arrays(head: FittedHead, calibrated: bool) -> dict[str, Array]:
    """Return the arrays of a head in float32, without those that only the methods of `Head` use.

    A mean is split into two arrays, `mean` and `rest`: the rounding error of a single float32 can be larger than the
    deviation of a dimension that hardly varies. The curves of an isotonic calibration are float64: they may be steep.

    Raises:
        UsageError: calibrated probabilities are wanted, but there is no calibration.
    """
    arrays: dict[str, Array] = {}
    for name, array in head.arrays.items():
        part, _, last = name.partition(".")
        if part not in ("calibration", "operating"):
            arrays[name] = array.astype(np.float32)
        if part.startswith("step") and last == "mean":
            arrays[f"{part}.rest"] = (array - arrays[name]).astype(np.float32)
    if calibrated:
        start = "calibration."
        learned = {name.removeprefix(start): array for name, array in head.arrays.items() if name.startswith(start)}
        if not learned:
            raise UsageError("This head has no calibration. Export it with calibrated=False (--raw).")
        if "temperature" in learned:
            arrays["temperature"] = learned["temperature"].astype(np.float32)
        else:
            arrays |= find_ramps(learned)
    return arrays
