"""Filesystem: write files whole or not at all, and show paths safely."""
