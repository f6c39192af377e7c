"""`python -m scanwise`."""

from scanwise.cli import main

main()
