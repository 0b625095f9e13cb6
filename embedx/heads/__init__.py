"""Heads: light classifiers of vectors. Fitted by scikit-learn or torch, kept as arrays, predicting with numpy alone.

A head knows no collection: it takes arrays. Preparation and choices are learned on the rows that it is given, and
judged inside by whole groups of them.
"""

from embedx.heads.calibration import METHODS, fit_calibration
from embedx.heads.files import check_name
from embedx.heads.fitting import fit
from embedx.heads.head import Head
from embedx.heads.kinds import KINDS
from embedx.heads.preprocessing import STEPS
from embedx.heads.thresholds import operating_points

__all__ = ["KINDS", "METHODS", "STEPS", "Head", "check_name", "fit", "fit_calibration", "operating_points"]
