"""Ingest: what a store lacks is read, embedded and committed."""
