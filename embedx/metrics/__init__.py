"""Metrics: truth and probabilities -> figures that carry their interval and are shown with their baselines.

Every figure comes with a 95 % interval over groups (recordings, speakers or sites), because rows of one group have
similar errors, and an interval over rows would be too narrow. A figure that cannot be
computed is None and has a note. The functions take arrays; they do not know stores, heads or models.
"""

from embedx.metrics.calibration import Bin, reliability
from embedx.metrics.figures import Figure
from embedx.metrics.report import ClassMetrics, Metrics, PartMetrics
from embedx.metrics.retrieval import retrieve
from embedx.metrics.scoring import evaluate

__all__ = [
    "Bin",
    "ClassMetrics",
    "Figure",
    "Metrics",
    "PartMetrics",
    "evaluate",
    "reliability",
    "retrieve",
]
