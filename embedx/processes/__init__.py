"""Processes: start child processes, and exchange messages and arrays with them."""
