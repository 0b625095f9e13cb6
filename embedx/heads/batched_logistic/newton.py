"""Newton: multinomial logistic regressions [B] solved at once, for one C after the other, in float32 by torch.

For rows x [n, D], their classes y of K, and weights w [n], the objective is scikit-learn's, divided by C::

    f(W) = sum_n w_n (log sum_k exp z_nk - z_ny) + |W|² / 2C        with z = x W, and no penalty on the intercept
    Hessian = sum_n w_n x_n x_n' (x) (diag p_n - p_n p_n') + I / C        with p = softmax z

As diag p - p p' <= (I - 11'/K) / 2 for every p (Böhning, 1992), the Hessian stays below X'X (x) (I - 11'/K) / 2 + I/C
wherever W is: for every C it is steep or flat along the eigenvectors of X'X. So x is turned into these axes once; that
leaves |W| as it is, and makes the bound diagonal. With h_k, the mean of p_nk (1 - p_nk), for 1/2 it is close as well:
1 / (h_k s_i + 1/C), where s_i is the sum of squares along an axis, is a preconditioner that costs nothing.

With it, conjugate gradients find Newton's direction in about ten products with the Hessian. A direction need not be
exact, so these are in bfloat16 where the processor knows it, with Intel's AMX in a quarter of the time; gradient and
line search are in float32. A path begins each C where the solutions before it point to.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log, prod

import torch
from torch import Tensor

FORCING = 0.1  # a direction is good enough when its residual is that of the gradient times this
SLOPE = 0.1  # a step ends where the slope along it has fallen to this share
NEWTON, CONJUGATE, SEARCH = 60, 120, 12  # limits that are met only where float32 is at its end


@dataclass(frozen=True)
class BatchedProblem:
    """Regressions [B] of the same shape; rows that fill up a shorter one are zero and have no weight.

    `x` [B, n, r + 1] are standardised rows in the axes `basis` [B, D, r], and ones; `y` and `weight` are [B, n, 1];
    `absent` [B, 1, K] is minus infinity for classes without an example; `penalty` [B, r + 1, 1] is that of C = 1.
    `steep` [B, r + 1, 1] is the weighted sum of squares along each axis; `narrow` and its transpose are x for products
    that need not be exact.
    """

    x: Tensor
    y: Tensor
    weight: Tensor
    absent: Tensor
    basis: Tensor
    penalty: Tensor
    steep: Tensor
    narrow: Tensor
    narrow_t: Tensor


@dataclass(frozen=True)
class PathPoint:
    """A solution on a path: at log C the W [B, r + 1, K], and z = x W [B, n, K]."""

    at: float
    W: Tensor
    z: Tensor


def build(rows: Tensor, y: Tensor, weight: Tensor, classes: int, axes: Tensor) -> BatchedProblem:
    """Make a problem of standardised rows [B, n, D], with the classes [B, n] and weights [B, n] that belong to them.

    `axes` [D, D] are those of `find_axes` for some rows of the view: those of a part with more rows than dimensions
    differ little. A smaller part gets its own, within the n dimensions that it spans; a solution never leaves these.

    A part that has two classes only is scikit-learn's binary regression, which counts |v|² / 2C for v = W_1 - W_0. As
    W_1 = -W_0, that is twice what is counted here; so the penalty is doubled.
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
    narrow = x.to(quick_type(x.device))
    return BatchedProblem(
        x=x,
        y=torch.where(weight > 0, y, present.int().argmax(1, keepdim=True))[..., None],  # what has no weight has p > 0
        weight=weight[..., None],
        absent=torch.zeros(present.shape, device=y.device).masked_fill(~present, -torch.inf)[:, None],
        basis=basis,
        penalty=penalty[..., None],
        steep=(x * x * weight[..., None]).sum(1)[..., None],
        narrow=narrow,
        narrow_t=narrow.mT if narrow is x else narrow.mT.contiguous(),
    )


def find_axes(rows: Tensor) -> Tensor:
    """Return the eigenvectors [..., D, D] of X'X for rows X [..., n, D]."""
    axes: Tensor = torch.linalg.eigh(rows.mT @ rows).eigenvectors
    return axes


def quick_type(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the processor multiplies it by itself, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("amx_bf16") or able.get("avx512_bf16") else torch.float32


def follow(problem: BatchedProblem, Cs: Sequence[float], tol: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for each of ascending Cs the solution W [B, r + 1, K], and its gap [B] as `descend` says."""
    past: list[PathPoint] = []
    for C in Cs:
        penalty = problem.penalty / C
        W = begin(problem, penalty, log(C), past)
        W, z, gap = descend(problem, W, penalty, tol)
        past = [*past[-2:], PathPoint(log(C), W, z)]
        yield W, gap[:, 0, 0]


def begin(problem: BatchedProblem, penalty: Tensor, at: float, past: Sequence[PathPoint]) -> Tensor:
    """Return where to start: the last solution, or the line or parabola in log C through two or three, if f is less."""
    best = problem.x.new_zeros(problem.x.shape[0], problem.x.shape[2], problem.absent.shape[2])
    least = torch.full_like(best[:, :1, :1], torch.inf)
    for number in range(1, len(past) + 1):
        knots = past[-number:]
        W, z = torch.zeros_like(best), torch.zeros_like(knots[0].z)
        for one in knots:  # Lagrange's polynomial
            share = prod((at - other.at) / (one.at - other.at) for other in knots if other is not one)
            W, z = W + share * one.W, z + share * one.z
        f = evaluate(problem, z)[0] + dot(penalty * W, W) / 2
        best, least = torch.where(f < least, W, best), torch.minimum(f, least)
    return best


def descend(problem: BatchedProblem, W: Tensor, penalty: Tensor, tol: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the solution W, its z = x W [B, n, K], and the gap [B, 1, 1]: about twice (f - least f) / f, below tol."""
    x, z = problem.x, problem.x @ W
    mass = problem.weight.sum(1, keepdim=True)
    for _ in range(NEWTON):
        loss, p, residual = evaluate(problem, z)
        slope = penalty * W
        f = loss + dot(slope, W) / 2
        gradient = x.mT @ residual + slope
        bend = (problem.weight * p * (1 - p)).sum(1, keepdim=True) / mass
        scale = 1 / (problem.steep * bend + penalty).clamp_min(1e-30)
        square = dot(gradient, scale * gradient)
        gap = square / f
        if not (gap > tol).any():
            break
        goal = torch.maximum(FORCING**2 * square, 0.3 * tol * f)
        goal = torch.where(gap > tol, goal, torch.inf)  # what has converged stays where it is
        direction = newton_direction(problem, p, gradient, penalty, scale, goal)
        along = x @ direction
        step = search(problem, z, along, dot(slope, direction), dot(penalty * direction, direction), residual)
        W, z = W + step * direction, z + step * along
    return W, z, gap


def evaluate(problem: BatchedProblem, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss [B, 1, 1], the probabilities p [B, n, K], and the derivative of the loss by z [B, n, K].

    The derivative p - 1 of the true class is summed up from the other classes: it keeps its digits where p is nearly 1.
    """
    z = z + problem.absent
    z = z - z.amax(2, keepdim=True)
    powers = z.exp()
    total = powers.sum(2, keepdim=True)
    p = powers / total  # several times as quick as softmax for few classes
    others = p.scatter(2, problem.y, 0)
    residual = problem.weight * others.scatter(2, problem.y, -others.sum(2, keepdim=True))
    loss = dot(problem.weight, total.log() - z.gather(2, problem.y))
    return loss, p, residual


def newton_direction(
    problem: BatchedProblem, p: Tensor, gradient: Tensor, penalty: Tensor, scale: Tensor, goal: Tensor
) -> Tensor:
    """Return about - Hessian⁻¹ gradient [B, r + 1, K], by conjugate gradients down to the scaled square `goal`."""
    direction, left = torch.zeros_like(gradient), -gradient
    trial = scale * left
    square = dot(left, trial)
    weighted, quick = problem.weight * p, problem.narrow.dtype
    for _ in range(CONJUGATE):
        live = square > goal
        if not live.any():
            break
        along = torch.bmm(problem.narrow, trial.to(quick)).to(p.dtype)
        along -= along.gather(2, problem.y)  # changes no p; with zero there, nothing is lost where p is nearly 1
        along = along.sub_((p * along).sum(2, keepdim=True)).mul_(weighted)
        image = torch.bmm(problem.narrow_t, along.to(quick)).to(p.dtype).addcmul_(penalty, trial)
        size = torch.where(live, square / dot(trial, image), 0)
        direction.addcmul_(size, trial)
        left.addcmul_(size, image, value=-1)
        scaled = scale * left
        before, square = square, dot(left, scaled)
        trial = scaled.addcmul_(torch.where(live, square / before, 0), trial)
    return direction


def search(problem: BatchedProblem, z: Tensor, along: Tensor, slope: Tensor, bend: Tensor, residual: Tensor) -> Tensor:
    """Return the step [B, 1, 1] along a direction at which f is nearly flat, by Newton's method between brackets.

    z + step * along needs no product with x, so that a step costs little. `slope` and `bend` are those of the penalty.
    """
    along = along - along.gather(2, problem.y)
    first = dot(residual, along) + slope
    step, low, high = torch.ones_like(first), torch.zeros_like(first), torch.full_like(first, torch.inf)
    for _ in range(SEARCH):
        _, p, residual = evaluate(problem, z + step * along)
        now = dot(residual, along) + slope + step * bend
        steep = now.abs() > SLOPE * first.abs()
        if not steep.any():
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
