"""Speed benchmark: how fast a machine runs a model, where the time goes, and what would make it faster."""
