"""Speed: measure how fast a machine runs a model, where the time goes, and what would help."""
