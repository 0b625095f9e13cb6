"""Heads: light classifiers on stored vectors."""
