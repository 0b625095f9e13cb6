"""Embedding: windows -> batches of similar length -> vectors, on one or several devices."""
