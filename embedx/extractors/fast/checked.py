"""checked: a layer is computed in the first of several ways that gives the right numbers where it is used.

A private kernel may be right at one shape and read memory that is not its own at another, on one processor and not on
the next. So every layer is compared when it is used first, with its own weights: on what it is used on, and on random
numbers. What is right is the public operation in float32, on the same rounded numbers.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import gcd, inf

import torch
from torch import Tensor

log = logging.getLogger("embedx")

TRIES = 3  # random inputs, besides the first real one: a kernel that reads foreign memory is right by chance, at times
ROWS = 2  # that each of them has at most, along the first dimension
STEP = 8  # of the first and the last row every eighth number is compared: kernels make at least so many at a time
Layer = Callable[[Tensor], Tensor]
Public = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # x, weight and bias -> y


@dataclass
class Kernels:
    """In which ways the layers of a network are computed, as far as they have been used."""

    ways: dict[str, str] = field(default_factory=dict)  # kind of layer -> its way, or several with commas
    replaced: dict[str, str] = field(default_factory=dict)  # kind -> which way was wrong, and which was taken
    known: dict[str, str] = field(default_factory=dict)  # name of a layer that is made again and again -> its way
    lock: threading.RLock = field(default_factory=threading.RLock)

    def note(self, kind: str, way: str, wrong: list[str]) -> None:
        """Note the way of a layer, and warn of those that were wrong, once for each kind."""
        self.ways[kind] = ", ".join(sorted({way, *self.ways.get(kind, way).split(", ")}))
        if wrong and kind not in self.replaced:
            self.replaced[kind] = f"{way} for {' and '.join(wrong)}"
            log.warning("Wrong numbers on this processor: %s. Taken: %s.", kind, self.replaced[kind])


class Checked:
    """A layer x [rows, ...] -> y [rows, ...], each number of y a sum of products with a row of the weights.

    `ways` are tried in turn, then the public operation in the type of the weights, then in float32. A layer with a
    `name` is compared once, however often it is made with other weights.
    """

    def __init__(
        self,
        kind: str,
        ways: dict[str, Callable[[], Layer]],
        public: Public,
        weight: Tensor,
        bias: Tensor | None,
        kernels: Kernels,
        *,
        groups: int = 1,
        name: str = "",
    ) -> None:
        self.kind = f"{kind} {list(weight.shape)} in {str(weight.dtype).removeprefix('torch.')}"
        self.ways = ways | {"torch": lambda: lambda x: public(x, weight, bias)}
        if weight.dtype != torch.float32:
            self.ways["torch in float32"] = lambda: widen(public, weight, bias, weight.dtype)
        step = gcd(STEP, len(weight) // groups)
        self.some = slice(step - 1, None, step)  # of the numbers of a row of y, as many of each group
        self.exact = lambda: widen(public, weight[self.some], None if bias is None else bias[self.some], torch.float32)
        self.terms = weight[0].numel()  # K, which are added up for a number of y
        self.dtype, self.kernels, self.name = weight.dtype, kernels, name
        self.run: Layer = self._run_first

    def __call__(self, x: Tensor) -> Tensor:
        """Compute."""
        return self.run(x)

    def _run_first(self, x: Tensor) -> Tensor:
        """Compute, and find out by that how it will be computed; other threads wait for it."""
        with self.kernels.lock:
            if self.run != self._run_first:
                return self.run(x)
            if way := self.kernels.known.get(self.name):
                self.run = self.ways[way]()
                y = self.run(x)
            else:
                way, self.run, y = self._choose(x)
                if self.name:
                    self.kernels.known[self.name] = way
            del self.ways, self.exact  # and the weights, which most ways have packed for themselves
        return y

    def _choose(self, x: Tensor) -> tuple[str, Layer, Tensor]:
        """Return the first way that is right, its layer, and what that gives for x."""
        *others, last = self.ways
        wrong: list[str] = []
        if others:
            random, shape = torch.Generator().manual_seed(0), (min(len(x), ROWS), *x.shape[1:])
            inputs = [x, *(torch.randn(shape, generator=random).to(self.dtype) for _ in range(TRIES))]
            seen = [pick(one) for one in inputs]
            right = self.exact()(torch.cat(seen)).split([len(one) for one in seen])  # type: ignore[no-untyped-call]
            near = self._tolerances(seen, right)
        for way in others:
            try:
                run = self.ways[way]()
                found = [run(one) for one in inputs]
            except RuntimeError:  # it is not for this type or shape
                wrong.append(way)
                continue
            errors = [float((pick(y)[..., self.some] - true).abs().max()) for y, true in zip(found, right, strict=True)]
            if all(error <= most for error, most in zip(errors, near, strict=True) if most < inf):  # NaN is not
                self.kernels.note(self.kind, way, wrong)
                return way, run, found[0]
            wrong.append(way)
        self.kernels.note(self.kind, last, wrong)
        run = self.ways[last]()
        return last, run, run(x)

    def _tolerances(self, inputs: Sequence[Tensor], right: Sequence[Tensor]) -> list[float]:
        """Return how far another way may be from what is right for each input, of which all but the first are random.

        A number of y is rounded to its type before GELU and behind it, by half a step each time: a bit more than one
        step of the largest in all, of which one and a half are allowed. Its K products are added up in float32: K
        errors of half a step of sums that are about |x| |w| / sqrt(K), and which differ in sign, come to half a step of
        |x| |w|. Here |x| is at most sqrt(K) times the largest number of x, and |w| less than the largest number of y
        for random x, of which |w| is the standard deviation. So one step of the product of these leaves ample room.
        """
        largest = max(float(y.abs().max()) for y in right[1:])
        sums = torch.finfo(torch.float32).eps * self.terms**0.5 * largest
        step = torch.finfo(self.dtype).eps
        return [
            1.5 * step * float(y.abs().max()) + sums * float(x.abs().max()) for x, y in zip(inputs, right, strict=True)
        ]


def widen(public: Public, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Layer:
    """Return the public operation in float32 on the same numbers; what it gives is of a `dtype`."""
    wide, wide_bias = weight.float(), None if bias is None else bias.float()

    def run(x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):  # which would narrow it again
            return public(x.float(), wide, wide_bias).to(dtype)

    return run


def pick(x: Tensor) -> Tensor:
    """Return the first and the last row.

    >>> pick(torch.arange(10))
    tensor([0, 9])
    """
    return x[[0, -1]]
