"""`python -m embedx` is the program `embedx`."""

from embedx.cli import main

main()
