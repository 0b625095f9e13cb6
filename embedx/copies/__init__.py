"""Copies: rows -> pairs of rows that look alike, by their sound, or by their vectors where the sound is not at hand."""
