"""Batched logistic regression: all views, folds and values of C solved together."""
