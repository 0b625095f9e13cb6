"""Filesystem: write files completely or not at all, and display paths safely."""
