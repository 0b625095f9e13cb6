"""Checked layers: before an implementation of a layer is used, its results are compared with torch's public operation.

A private kernel of torch may be correct for one shape or processor and read foreign memory for another. So every layer
is checked with its own weights when it is first used: on the first real input and on random inputs. The reference is
the public operation in float32 on the same rounded numbers.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import gcd, inf

import torch
from torch import Tensor

log = logging.getLogger("embedx")

RANDOM_INPUTS = 3  # a kernel that reads foreign memory is sometimes right by chance, so one input is not enough
MAX_ROWS = 2  # of each random input, along the first dimension; the check compares only the first and the last row
STEP = 8  # every eighth number of a row is compared: kernels compute at least eight numbers together
Layer = Callable[[Tensor], Tensor]
Public = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # x, weight and bias -> y


@dataclass
class Kernels:
    """The implementations that the layers of a network use, as far as these have run.

    Attributes:
        used: kind of layer -> name of its implementation, or several names with commas.
        replaced: kind of layer -> "A instead of B", where B failed the check.
        chosen: name of a layer -> name of its implementation, for layers that are built repeatedly.
        lock: held while a layer is checked.
    """

    used: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def record(self, kind: str, name: str, failed: list[str]) -> None:
        """Record the implementation of a layer; warn of those that failed the check, once per kind of layer."""
        self.used[kind] = ", ".join(sorted({name, *self.used.get(kind, name).split(", ")}))
        if failed and kind not in self.replaced:
            self.replaced[kind] = f"{name} instead of {' and '.join(failed)}"
            log.warning(
                "%s gave wrong results or an error for the layer %s on this processor, so %s is used for it instead. "
                "The vectors are correct; the model may run more slowly.",
                " and ".join(failed),
                kind,
                name,
            )


class Checked:
    """A layer x [rows, ...] -> y [rows, ...] in which each number of y is a sum of products with a row of the weights.

    The first implementation that passes the check is used: those that are given, then the public operation in the type
    of the weights, then the public operation in float32, which is not checked.
    """

    def __init__(
        self,
        kind: str,
        implementations: dict[str, Callable[[], Layer]],
        public: Public,
        weight: Tensor,
        bias: Tensor | None,
        kernels: Kernels,
        *,
        groups: int = 1,
        name: str = "",
    ) -> None:
        """Prepare a layer; nothing is built before its first use.

        Args:
            kind: the kind of layer, for records and the log.
            implementations: name -> function that builds the layer, in the order of preference.
            public: the public operation.
            weight: weights [M, ...].
            bias: bias [M].
            kernels: where the choice is recorded.
            groups: number of groups of a grouped convolution.
            name: a layer with a name is checked once, even if it is built again with other weights.
        """
        self.kind = f"{kind} {list(weight.shape)} in {str(weight.dtype).removeprefix('torch.')}"
        self.implementations = implementations | {"torch": lambda: lambda x: public(x, weight, bias)}
        if weight.dtype != torch.float32:
            self.implementations["torch in float32"] = lambda: widen(public, weight, bias, weight.dtype)
        step = gcd(STEP, len(weight) // groups)
        self.compared = slice(step - 1, None, step)  # numbers of a row of y, the same count from each group
        self.exact = lambda: widen(
            public, weight[self.compared], None if bias is None else bias[self.compared], torch.float32
        )
        self.terms = weight[0].numel()  # K, the number of products in a sum
        self.dtype, self.kernels, self.name = weight.dtype, kernels, name
        self.run: Layer = self._run_first

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the layer."""
        return self.run(x)

    def _run_first(self, x: Tensor) -> Tensor:
        """Compute the layer for the first time and choose its implementation; other threads wait."""
        with self.kernels.lock:
            if self.run != self._run_first:
                return self.run(x)
            if chosen := self.kernels.chosen.get(self.name):
                self.run = self.implementations[chosen]()
                y = self.run(x)
            else:
                chosen, self.run, y = self._choose(x)
                if self.name:
                    self.kernels.chosen[self.name] = chosen
            del self.implementations, self.exact  # frees the weights, which most implementations have repacked
        return y

    def _choose(self, x: Tensor) -> tuple[str, Layer, Tensor]:
        """Return the name of the first implementation that passes the check, its layer, and its result for x."""
        *names, last = self.implementations
        failed: list[str] = []
        if names:
            random, shape = torch.Generator().manual_seed(0), (min(len(x), MAX_ROWS), *x.shape[1:])
            inputs = [x, *(torch.randn(shape, generator=random).to(self.dtype) for _ in range(RANDOM_INPUTS))]
            ends = [first_and_last(each) for each in inputs]
            exact = self.exact()(torch.cat(ends)).split([len(each) for each in ends])  # type: ignore[no-untyped-call]
            tolerances = self._tolerances(ends, exact)
        for name in names:
            try:
                layer = self.implementations[name]()
                results = [layer(each) for each in inputs]
            except RuntimeError:  # the kernel does not support this type or shape
                failed.append(name)
                continue
            errors = [
                float((first_and_last(y)[..., self.compared] - true).abs().max())
                for y, true in zip(results, exact, strict=True)
            ]
            pairs = zip(errors, tolerances, strict=True)
            if all(error <= tolerance for error, tolerance in pairs if tolerance < inf):  # an error of NaN fails
                self.kernels.record(self.kind, name, failed)
                return name, layer, results[0]
            failed.append(name)
        self.kernels.record(self.kind, last, failed)
        layer = self.implementations[last]()
        return last, layer, layer(x)

    def _tolerances(self, inputs: Sequence[Tensor], exact: Sequence[Tensor]) -> list[float]:
        """Return the largest allowed error for each input; the inputs are random except for the first.

        A number of y is rounded to its type before and after GELU, by half a step each time. This gives an error of
        slightly more than one step of the largest number; one and a half are allowed.

        The K products of a number are added in float32. K rounding errors, each half a step of a partial sum of about
        |x| |w| / sqrt(K), have random signs, so their sum is about half a step of |x| |w|. Here |x| is at most sqrt(K)
        times the largest number of x. |w| is the standard deviation of y for random x, so it is less than the largest
        number of y for random x. One step of the product of these two bounds is allowed.
        """
        largest = max(float(y.abs().max()) for y in exact[1:])
        sums = torch.finfo(torch.float32).eps * self.terms**0.5 * largest
        step = torch.finfo(self.dtype).eps
        return [
            1.5 * step * float(y.abs().max()) + sums * float(x.abs().max()) for x, y in zip(inputs, exact, strict=True)
        ]


def widen(public: Public, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Layer:
    """Return the public operation computed in float32 on the same numbers, with a result of a type."""
    wide, wide_bias = weight.float(), None if bias is None else bias.float()

    def run(x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):  # autocast would use a narrower type
            return public(x.float(), wide, wide_bias).to(dtype)

    return run


def first_and_last(x: Tensor) -> Tensor:
    """Return the first and the last row.

    >>> first_and_last(torch.arange(10))
    tensor([0, 9])
    """
    return x[[0, -1]]
