"""`brachy warmup`: compile the kernels ahead; and what verbs do about it when they start."""

import sys
from typing import Annotated

import typer

from brachy.errors import BrachyError, UsageError


def warmup(
    verbs: Annotated[
        list[str] | None, typer.Argument(metavar="[VERB]...", help="Compile what these need; default all.")
    ] = None,
) -> None:
    """Compile the numerical kernels ahead, once for this version and processor.

    Example: brachy warmup plan
    """
    from brachy.core import kernel_list, warm

    for verb in verbs or ():
        if verb not in kernel_list.VERBS:
            raise UsageError(f"no verb '{verb}' has kernels: {', '.join(kernel_list.VERBS)}")
    for verb in verbs or kernel_list.VERBS:
        if not warm.compile_ahead(verb, _note):
            raise BrachyError("a process that compiles ended: kernels are compiled when they are needed")
    print("kernels are compiled")


def start(verb: str) -> None:
    """Let other processes compile what a verb needs, unless it is compiled; returns at once."""
    from brachy.core import warm

    if not warm.is_ready(verb):
        from brachy.cli import console

        compilation = warm.Compilation(verb, changed=console.show_kernels_left)
        console.show_kernels_left(compilation.left)
        compilation.start()


def _note(text: str) -> None:
    print(f"brachy: {text}", file=sys.stderr, flush=True)
