"""Annotations: stretches of recordings with labels, as Raven, Audacity, Label Studio, BirdNET and Praat write them."""
