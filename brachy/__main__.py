"""`python -m brachy`."""

from brachy.cli import main

main()
