"""The program `brachy`, and `python -m brachy`: Ctrl-C is watched before anything large is imported."""

import sys

from brachy import interrupts


def main() -> None:
    """Run the program and leave with its exit code."""
    with interrupts.watched():
        try:
            from brachy.cli.app import main as answer

            answer()
        except SystemExit as left:
            if left.code == interrupts.EXIT_CODE:
                interrupts.leave()
            raise
        except (KeyboardInterrupt, Exception) as error:
            if not interrupts.behind(error):
                raise
            interrupts.ended()
            print(f"brachy: {interrupts.message()}", file=sys.stderr)
            interrupts.leave()


if __name__ == "__main__":
    main()
