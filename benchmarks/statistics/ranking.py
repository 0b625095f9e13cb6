"""ROC AUC and d-prime of cross-validated heads are ranked within a fold, and averaged over the folds. Each fold is a
site with its own class shares. Without signal, the mean must be that of random ranks; with signal, that of the heads on
many new rows. "Pooled" ranks all folds together, as embedx did before.
"""

import numpy as np
from claims import Claim
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from embedx.metrics.scoring import evaluate

TRIALS = 600
BIAS = 0.01  # a small part of the standard error of a probe
DIM = 8
ROWS = 50  # of a site, on average
NEW_ROWS = 1000  # of each class, for the true area of a head
SITES = {  # share of the first class at each site
    "shares 0.1 to 0.9": (0.1, 0.9, 0.3, 0.7, 0.5),
    "shares 0 to 0.6": (0.0, 0.6, 0.1, 0.5, 0.2, 0.4, 0.3),
}

Floats = NDArray[np.float64]


def simulate(scale: float, seed: int) -> list[Claim]:
    """Compare figures of cross-validated heads with their true values."""
    trials = max(4, round(TRIALS * scale))
    claims = []
    for name, shares in SITES.items():
        for signal in (0.0, 1.0):
            random = np.random.default_rng([seed, len(shares), int(signal)])
            areas, d_primes, pooled = np.array([cross_validate(shares, signal, random) for _ in range(trials)]).T
            what = f"{name}, {'no signal' if signal == 0 else 'signal'}"
            claims.append(judge(f"{what}: error of macro_auc", areas, BIAS))
            if signal == 0:
                claims.append(judge(f"{what}: d_prime", d_primes, 4 * BIAS))  # at 0.5 its slope is 3.5
                text = f"{what}: error of the pooled ROC AUC, not shown by embedx"
                claims.append(Claim(text, float(pooled.mean()), trials, high=-0.05, error=deviation(pooled)))
    return claims


def judge(text: str, values: Floats, limit: float) -> Claim:
    """Claim that the mean of values is close to 0."""
    return Claim(text, float(values.mean()), len(values), -limit, limit, deviation(values))


def deviation(values: Floats) -> float:
    """Return the standard error of a mean."""
    return float(values.std(ddof=1) / len(values) ** 0.5)


def cross_validate(shares: tuple[float, ...], signal: float, random: np.random.Generator) -> tuple[float, float, float]:
    """Return macro_auc minus its true value, d-prime, and the pooled area minus the same true value."""
    rows = random.multinomial(ROWS * len(shares), random.dirichlet([3] * len(shares))) + 5
    site = np.repeat(np.arange(len(shares)), rows)
    y = (random.random(len(site)) < np.array(shares)[site]).astype(np.int64)
    x = random.standard_normal((len(y), DIM))
    x[:, 0] += signal * y
    new = random.standard_normal((2 * NEW_ROWS, DIM))
    new[:NEW_ROWS, 0] += signal
    truth, proba = [], np.empty((len(y), 2))
    for fold in range(len(shares)):
        test = site == fold
        head = LogisticRegression(C=0.1).fit(x[~test], y[~test])
        proba[test] = head.predict_proba(x[test])
        if len(set(y[test].tolist())) == 2:
            truth.append(roc_auc_score(np.arange(2 * NEW_ROWS) < NEW_ROWS, new @ head.coef_[0]))
    figures = evaluate(y, proba, ["no", "yes"], parts=site, samples=0).figures
    area, distance = figures["macro_auc"], figures["d_prime"]
    assert area is not None
    assert distance is not None
    true = float(np.mean(truth)) if signal else 0.5
    return area.value - true, distance.value, float(roc_auc_score(y, proba[:, 1])) - true
