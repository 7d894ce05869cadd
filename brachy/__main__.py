"""Entry point of the program `brachy` and of `python -m brachy`; Ctrl-C is watched before large imports begin."""

import sys

from brachy import caches, interrupts


def main() -> None:
    """Run the program and end with its exit code."""
    with interrupts.watched():
        try:
            caches.keep_fonts()
            from brachy.cli.app import main as run

            run()
        except SystemExit as end:
            if end.code == interrupts.EXIT_CODE:
                interrupts.end_process()
            raise
        except (KeyboardInterrupt, Exception) as error:
            if not interrupts.caused_by_interrupt(error):
                raise
            interrupts.orderly_end()
            print(f"brachy: {interrupts.message()}", file=sys.stderr)
            interrupts.end_process()


if __name__ == "__main__":
    main()
