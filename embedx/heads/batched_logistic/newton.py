"""Newton solver: a batch [B] of multinomial logistic regressions, for one C after the other, in float32 with torch.

For rows x [n, D], their classes y of K, and weights w [n], the objective is scikit-learn's, divided by C::

    f(W) = sum_n w_n (log sum_k exp z_nk - z_ny) + |W|² / 2C        with z = x W, and no penalty on the intercept
    Hessian = sum_n w_n x_n x_n' (x) (diag p_n - p_n p_n') + I / C        with p = softmax z

As diag p - p p' <= (I - 11'/K) / 2 for every p (Böhning, 1992), the Hessian is bounded by X'X (x) (I - 11'/K) / 2 + I/C
for every W, and the eigenvectors of X'X are the axes of this bound for every C. So x is rotated into these axes once;
this does not change |W|, and makes the bound diagonal. With h_k, the mean of p_nk (1 - p_nk), in place of 1/2 the bound
is also a good approximation: 1 / (h_k s_i + 1/C), where s_i is the sum of squares along an axis, is a preconditioner
that costs almost nothing.

With it, conjugate gradients find the Newton direction in about ten products with the Hessian. A direction need not be
exact, so these products use bfloat16 where the CPU supports it (a quarter of the time with Intel AMX); gradient and
line search use float32. The start for each C is extrapolated from the solutions for the Cs before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log, prod

import torch
import torch.nn.functional as F
from torch import Tensor

RESIDUAL_THRESHOLD = 0.1  # a direction is accepted when its residual is this share of the gradient
SLOPE_THRESHOLD = 0.1  # a step is accepted when the slope along it has fallen to this share
# A GPU is asked after every fourth step whether all is solved: each answer costs as much as several small products.
STEPS_PER_CHECK = {"cpu": 1, "cuda": 4}
ALIGNMENT = {"cpu": 1, "cuda": 8}  # sizes of narrow matrices are multiples: tensor cores need rows of 16 bytes
# Limits on iterations; they are reached only at the limit of the precision of float32.
MAX_NEWTON, MAX_CONJUGATE, MAX_SEARCH = 60, 120, 12


@dataclass(frozen=True)
class BatchedProblem:
    """A batch [B] of regressions, padded to one shape; padding rows are zero and have no weight.

    Attributes:
        x: [B, n, r + 1] standardised rows in the axes of `basis`, and a column of ones.
        y: [B, n, 1] class numbers.
        weight: [B, n, 1].
        absent: [B, 1, K] minus infinity for classes without examples, else 0.
        basis: [B, D, r] axes.
        penalty: [B, r + 1, 1] for C = 1.
        curvature: [B, r + 1, 1] the weighted sum of squares along each axis.
        narrow, narrow_t: x and its transpose in a narrower type, for products that need not be exact; on a GPU, zeros
            bring their sizes to multiples of 8.
    """

    x: Tensor
    y: Tensor
    weight: Tensor
    absent: Tensor
    basis: Tensor
    penalty: Tensor
    curvature: Tensor
    narrow: Tensor
    narrow_t: Tensor


@dataclass(frozen=True)
class PathPoint:
    """A solution on a path: log C, W [B, r + 1, K], and z = x W [B, n, K]."""

    at: float
    W: Tensor
    z: Tensor


def build(rows: Tensor, y: Tensor, weight: Tensor, classes: int, axes: Tensor) -> BatchedProblem:
    """Build a batch from standardised rows [B, n, D] with their classes [B, n] and weights [B, n].

    `axes` [D, D] are those of `find_axes` for some rows of the view; the axes of other parts with more rows than
    dimensions differ little. A smaller part gets its own axes, within the n dimensions that it spans; the solution lies
    in these.

    For a part with two classes, scikit-learn solves a binary regression with the penalty |v|² / 2C for v = W_1 - W_0.
    As W_1 = -W_0, this is twice the penalty here, so the penalty is doubled.
    """
    present = torch.zeros(len(y), classes, device=y.device).scatter_reduce(1, y, weight, "amax") > 0
    if rows.shape[1] < rows.shape[2]:
        span = torch.linalg.qr(rows.mT).Q
        basis = span @ find_axes(rows @ span)
    else:
        basis = axes.expand(len(rows), *axes.shape)
    x = torch.cat([rows @ basis, (weight > 0).to(rows.dtype)[..., None]], 2)
    penalty = torch.ones_like(x[:, 0]).masked_fill(present.sum(1, keepdim=True) == 2, 2)
    penalty[:, -1] = 0
    narrow = align(x.to(narrow_type(x.device)), ALIGNMENT[x.device.type])
    return BatchedProblem(
        x=x,
        y=torch.where(weight > 0, y, present.int().argmax(1, keepdim=True))[
            ..., None
        ],  # any class with p > 0 will do for padding
        weight=weight[..., None],
        absent=torch.zeros(present.shape, device=y.device).masked_fill(~present, -torch.inf)[:, None],
        basis=basis,
        penalty=penalty[..., None],
        curvature=(x * x * weight[..., None]).sum(1)[..., None],
        narrow=narrow,
        narrow_t=narrow.mT if narrow is x else narrow.mT.contiguous(),
    )


def align(x: Tensor, multiple: int) -> Tensor:
    """Add zeros until both sizes of the matrices x [B, n, m] are multiples of a number.

    >>> align(torch.ones(1, 2, 9), 4).shape, align(torch.ones(1, 2, 9), 1).shape
    (torch.Size([1, 4, 12]), torch.Size([1, 2, 9]))
    """
    if multiple == 1:
        return x
    return F.pad(x, (0, -x.shape[2] % multiple, 0, -x.shape[1] % multiple))


def multiply(narrow: Tensor, x: Tensor, rows: int) -> Tensor:
    """Return the first `rows` rows of narrow @ x [B, rows, K], in the type of x."""
    padded = align(x.to(narrow.dtype), ALIGNMENT[x.device.type])
    return torch.bmm(narrow, padded)[:, :rows, : x.shape[2]].to(x.dtype)


def find_axes(rows: Tensor) -> Tensor:
    """Return the eigenvectors [..., D, D] of X'X for rows X [..., n, D]."""
    axes: Tensor = torch.linalg.eigh(rows.mT @ rows).eigenvectors
    return axes


def narrow_type(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the device multiplies it natively, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    capabilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else torch.float32


def follow(problem: BatchedProblem, Cs: Sequence[float], tol: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the solution W [B, r + 1, K] for each of ascending Cs, and its gap [B]; see `descend`."""
    past: list[PathPoint] = []
    for C in Cs:
        penalty = problem.penalty / C
        W = extrapolate(problem, penalty, log(C), past)
        W, z, gap = descend(problem, W, penalty, tol)
        past = [*past[-2:], PathPoint(log(C), W, z)]
        yield W, gap[:, 0, 0]


def extrapolate(problem: BatchedProblem, penalty: Tensor, at: float, past: Sequence[PathPoint]) -> Tensor:
    """Return a start: the last solution, or a line or parabola in log C through the last two or three, by lowest f."""
    best = problem.x.new_zeros(problem.x.shape[0], problem.x.shape[2], problem.absent.shape[2])
    least = torch.full_like(best[:, :1, :1], torch.inf)
    for number in range(1, len(past) + 1):
        points = past[-number:]
        W, z = torch.zeros_like(best), torch.zeros_like(points[0].z)
        for point in points:  # Lagrange polynomial
            share = prod((at - other.at) / (point.at - other.at) for other in points if other is not point)
            W, z = W + share * point.W, z + share * point.z
        f = evaluate(problem, z)[0] + dot(penalty * W, W) / 2
        best, least = torch.where(f < least, W, best), torch.minimum(f, least)
    return best


def descend(problem: BatchedProblem, W: Tensor, penalty: Tensor, tol: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the solution W, z = x W [B, n, K], and the gap [B, 1, 1], about twice (f - minimum of f) / f."""
    x, z = problem.x, problem.x @ W
    mass = problem.weight.sum(1, keepdim=True)
    for _ in range(MAX_NEWTON):
        loss, p, residual = evaluate(problem, z)
        slope = penalty * W
        f = loss + dot(slope, W) / 2
        gradient = x.mT @ residual + slope
        bend = (problem.weight * p * (1 - p)).sum(1, keepdim=True) / mass
        scale = 1 / (problem.curvature * bend + penalty).clamp_min(1e-30)
        square = dot(gradient, scale * gradient)
        gap = square / f
        if not (gap > tol).any():
            break
        goal = torch.maximum(RESIDUAL_THRESHOLD**2 * square, 0.3 * tol * f)
        goal = torch.where(gap > tol, goal, torch.inf)  # converged regressions do not move
        direction = newton_direction(problem, p, gradient, penalty, scale, goal)
        along = x @ direction
        step = search(problem, z, along, dot(slope, direction), dot(penalty * direction, direction), residual)
        W, z = W + step * direction, z + step * along
    return W, z, gap


def evaluate(problem: BatchedProblem, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss [B, 1, 1], the probabilities p [B, n, K], and the derivative of the loss by z [B, n, K].

    The derivative p - 1 of the true class is the sum over the other classes, which stays exact where p is nearly 1.
    """
    z = z + problem.absent
    z = z - z.amax(2, keepdim=True)
    powers = z.exp()
    total = powers.sum(2, keepdim=True)
    p = powers / total  # several times faster than softmax for few classes
    others = p.scatter(2, problem.y, 0)
    residual = problem.weight * others.scatter(2, problem.y, -others.sum(2, keepdim=True))
    loss = dot(problem.weight, total.log() - z.gather(2, problem.y))
    return loss, p, residual


def newton_direction(
    problem: BatchedProblem, p: Tensor, gradient: Tensor, penalty: Tensor, scale: Tensor, goal: Tensor
) -> Tensor:
    """Return about - Hessian⁻¹ gradient [B, r + 1, K], by conjugate gradients until their square is below `goal`."""
    direction, left = torch.zeros_like(gradient), -gradient
    trial = scale * left
    square = dot(left, trial)
    weighted, steps = problem.weight * p, STEPS_PER_CHECK[p.device.type]
    for number in range(MAX_CONJUGATE):
        live = square > goal
        if number and number % steps == 0 and not live.any():  # at first some are: `descend` has looked
            break
        along = multiply(problem.narrow, trial, p.shape[1])
        along -= along.gather(2, problem.y)  # does not change p, and stays exact where p is nearly 1
        along = along.sub_((p * along).sum(2, keepdim=True)).mul_(weighted)
        image = multiply(problem.narrow_t, along, trial.shape[1]).addcmul_(penalty, trial)
        size = torch.where(live, square / dot(trial, image), 0)
        direction.addcmul_(size, trial)
        left.addcmul_(size, image, value=-1)
        scaled = scale * left
        before, square = square, dot(left, scaled)
        trial = scaled.addcmul_(torch.where(live, square / before, 0), trial)
    return direction


def search(problem: BatchedProblem, z: Tensor, along: Tensor, slope: Tensor, bend: Tensor, residual: Tensor) -> Tensor:
    """Return the step [B, 1, 1] along a direction where f is nearly flat, by Newton's method with brackets.

    A step is cheap, because z + step * along needs no product with x. `slope` and `bend` are those of the penalty.
    """
    along = along - along.gather(2, problem.y)
    first = dot(residual, along) + slope
    step, low, high = torch.ones_like(first), torch.zeros_like(first), torch.full_like(first, torch.inf)
    steps = STEPS_PER_CHECK[z.device.type]
    for number in range(1, MAX_SEARCH + 1):
        _, p, residual = evaluate(problem, z + step * along)
        now = dot(residual, along) + slope + step * bend
        steep = now.abs() > SLOPE_THRESHOLD * first.abs()
        if number % steps == 0 and not steep.any():
            break
        weighted = p * along
        spread = (weighted * along).sum(2, keepdim=True) - weighted.sum(2, keepdim=True) ** 2
        low, high = torch.where(now < 0, step, low), torch.where(now < 0, high, step)
        width = torch.minimum(high, 4 * step) - low
        newton = step - now / (dot(problem.weight, spread) + bend)
        step = torch.where(steep, torch.clamp(newton, low + width / 20, low + width * 19 / 20), step)
    return step


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner products [B, 1, 1] of [B, ...] and [B, ...]."""
    return (a * b).sum((1, 2), keepdim=True)
