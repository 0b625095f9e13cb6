"""Evaluation: labels, splits that leak nothing, cross-validation, probes and layer sweeps."""
