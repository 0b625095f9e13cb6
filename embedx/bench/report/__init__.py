"""Report: the results of a benchmark as text, figures and one HTML page."""
