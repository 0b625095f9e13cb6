"""Embedding: windows -> batches of windows of similar length -> vectors, on one or several devices."""
