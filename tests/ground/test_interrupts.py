"""Ctrl-C and errors in destructors, each in a process of its own."""

import os
import signal
import subprocess
import sys

import pytest

LATE = """
import os, signal, sys
from brachy import interrupts

class Late:
    def __del__(self):
        raise ResourceWarning("left open")

with interrupts.watched():
    try:
        {interrupt}
        Late()
    except KeyboardInterrupt:
        Late()
    interrupts.orderly_end()
print("on", file=sys.stderr)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("interrupt", "said"), [("os.kill(os.getpid(), signal.SIGINT)", False), ("pass", True)]
)
def test_what_an_interruption_leaves_open_is_not_reported_and_all_else_is(interrupt, said):
    done = subprocess.run(
        [sys.executable, "-c", LATE.replace("{interrupt}", interrupt)],
        capture_output=True, text=True, check=False, env=os.environ,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in the background of a shell
    )  # fmt: skip
    assert "on" in done.stderr.splitlines()
    assert ("left open" in done.stderr) == said
