"""The version of embedx, in a module of its own so that every level can read it."""

__version__ = "0.1.0"
