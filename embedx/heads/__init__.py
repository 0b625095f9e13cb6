"""Heads: light classifiers of vectors, fitted by scikit-learn or torch, and kept as arrays; numpy alone predicts.

A head takes arrays and does not know collections. Preprocessing and choices such as C are learned on the given rows
only, and choices are made on held-out groups of these rows.
"""

from embedx.heads.calibration import METHODS, fit_calibration
from embedx.heads.files import check_name
from embedx.heads.fitting import classifier, fit
from embedx.heads.head import Head
from embedx.heads.kinds import KINDS
from embedx.heads.preprocessing import STEPS
from embedx.heads.thresholds import operating_points

__all__ = [
    "KINDS",
    "METHODS",
    "STEPS",
    "Head",
    "check_name",
    "classifier",
    "fit",
    "fit_calibration",
    "operating_points",
]
