"""Training: fit and save a head, predict with it, and choose which rows to label next."""
