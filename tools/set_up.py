"""Build .venv from the locks, hashes checked, and run the demonstration. Only the standard library is needed.

usage: python3 tools/set_up.py run|dev|demo

run: what planning needs (requirements-run.lock). dev: also what tests and documentation need (requirements.lock).
demo: `run`, then a plan of the liver phantom, and what each part took.

The installer is uv (requirements-uv.lock), which pip puts into .venv; where it cannot be had or fails, pip installs,
with the same locks.
"""

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
UV = PYTHON.with_name("uv.exe" if os.name == "nt" else "uv")
LOCKS = {"run": "requirements-run.lock", "dev": "requirements.lock"}
INPUTS = {
    "run": ("requirements-run.lock", "requirements-uv.lock", "pyproject.toml"),
    "dev": ("requirements.lock", "requirements-run.lock", "requirements-uv.lock", "pyproject.toml"),
}
FIRST = ("llvmlite", "numba", "numpy")
"""Packages that compiling the kernels needs; `demo` compiles while the others are installed."""
DEMO = ("plan", "phantoms/liver-metastasis.toml", "-o", "demo-plan", "--force")
FROM_PIP = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_CERT": "SSL_CERT_FILE",
    "PIP_DEFAULT_TIMEOUT": "UV_HTTP_TIMEOUT",
}
"""Settings of pip that uv has under another name."""


def say(text: str) -> None:
    """Print a line of progress at once."""
    print(f"set-up: {text}", flush=True)


def stamp(stage: str) -> Path:
    """File that holds the digest of what a finished stage was built from."""
    return VENV / f".{stage}"


def digest(stage: str) -> str:
    """SHA-256 of the files that a stage is built from."""
    content = hashlib.sha256()
    for name in INPUTS[stage]:
        content.update((ROOT / name).read_bytes())
    return content.hexdigest()


def is_built(stage: str) -> bool:
    """Whether a stage was finished with today's locks."""
    return stamp(stage).is_file() and stamp(stage).read_text() == digest(stage)


def packages_of(lock: str) -> list[tuple[str, str]]:
    """Name and entry of each package in the text of a lock; an entry is its line with the hashes that follow."""
    entries = re.finditer(r"^([a-z0-9][a-z0-9._-]*)==.*\n(?:[ \t].*\n)*", lock, re.M)
    return [(found[1], found[0]) for found in entries]


def make_venv() -> None:
    """An empty .venv, with uv in it where pip can fetch it."""
    if sys.version_info < (3, 11):  # noqa: UP036 - it is run by whatever python3 there is
        sys.exit("brachy needs python3 >= 3.11; set PYTHON=/path/to/python3.11")
    say(f"an environment of Python {sys.version.split()[0]} in .venv")
    if subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=False).returncode:
        sys.exit(
            "python3 cannot build a virtual environment: install its venv module (Debian: apt-get install python3-venv)"
        )
    if pip("--quiet", "-r", "requirements-uv.lock"):
        say("uv cannot be had here: pip installs instead, which takes some minutes")


def pip(*words: str) -> int:
    """Exit code of pip."""
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--require-hashes", *words]
    return subprocess.run(command, check=False, cwd=ROOT).returncode


def uv_environment() -> dict[str, str]:
    """The environment for uv, with pip's index, certificates and timeout where uv has none of its own."""
    found = {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "true", **os.environ}
    listed = subprocess.run(
        [str(PYTHON), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    told = dict(re.findall(r"^global\.([\w-]+)='(.*)'$", listed.stdout, re.M))
    for ours, theirs in FROM_PIP.items():
        value = os.environ.get(ours) or told.get(ours.removeprefix("PIP_").lower().replace("_", "-"))
        if value:
            found.setdefault(theirs, value)
    return found


def install(lock: Path) -> None:
    """Install a lock: by uv, and by pip where uv is missing or fails."""
    if UV.exists():
        command = [str(UV), "pip", "install", "--python", str(PYTHON), "--require-hashes", "-r", str(lock)]
        if not subprocess.run(command, check=False, cwd=ROOT, env=uv_environment()).returncode:
            return
        say("uv could not install: pip tries the same")
    if pip("-r", str(lock)):
        sys.exit("set-up: the packages could not be installed; is there a network? Then run make again")


def install_brachy() -> None:
    """The checkout itself, as an editable package; nothing is downloaded for it."""
    words = ["--quiet", "--no-deps", "--no-build-isolation", "-e", "."]
    command = [str(UV), "pip", "install", "--python", str(PYTHON), "--offline", *words]
    if not UV.exists() or subprocess.run(command, check=False, cwd=ROOT).returncode:
        command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", *words]
        subprocess.run(command, check=True, cwd=ROOT)


def build(stage: str, can_compile: Callable[[], None] | None = None) -> None:
    """Build .venv up to a stage, unless it is; a stage that was built from other locks is built anew.

    `can_compile` is called as soon as numba is installed, before the other packages.
    """
    if is_built(stage):
        return
    if not is_built("run"):
        make_venv()
        if can_compile is not None:
            install_first()
            can_compile()
        install_packages("run")
        install_brachy()
        stamp("run").write_text(digest("run"))
    if stage == "dev":
        install_packages("dev")
        stamp("dev").write_text(digest("dev"))


def install_first() -> None:
    """Install what compiling needs, from the lock of the run-time packages."""
    entries = packages_of((ROOT / LOCKS["run"]).read_text())
    lock = VENV / "first.lock"
    lock.write_text("".join(entry for name, entry in entries if name in FIRST))
    say(f"{', '.join(FIRST)}, hashes checked")
    install(lock)


def compile_kernels() -> "subprocess.Popen[bytes]":
    """Start to compile the kernels of `plan`, in processes of their own."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [str(PYTHON), "-m", "brachy.core.warm", "plan"]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path})


def install_packages(stage: str) -> None:
    """Install the lock of a stage and tell what is done."""
    lock = ROOT / LOCKS[stage]
    by = "uv" if UV.exists() else "pip"
    say(f"{len(packages_of(lock.read_text()))} packages of {lock.name} by {by}, hashes checked")
    install(lock)


def megabytes(folder: Path) -> float:
    """Space that the files of a folder take, in MB of 10^6 bytes."""
    files = (path.lstat() for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return sum(getattr(file, "st_blocks", file.st_size / 512) * 512 for file in files) / 1e6


def demo() -> int:
    """Install what is missing, plan the liver phantom, and tell the seconds of each and the MB installed."""
    start = time.monotonic()
    compiling: list[tuple[subprocess.Popen[bytes], float]] = []

    def start_compiling() -> None:
        if not compiling:
            compiling.append((compile_kernels(), time.monotonic()))

    build("run", start_compiling)
    installed = time.monotonic()
    start_compiling()
    process, started = compiling[0]
    process.wait()
    compiled = time.monotonic()
    code = subprocess.run([str(PYTHON), "-m", "brachy", *DEMO], check=False, cwd=ROOT).returncode
    if code:
        return code
    planned = time.monotonic()
    say(
        f"done in {planned - start:.0f} s: installing {installed - start:.0f} s, compiling {compiled - started:.0f} s "
        f"({compiled - installed:.0f} s of them after installing), planning {planned - compiled:.0f} s; "
        f"{megabytes(VENV):.0f} MB in .venv"
    )
    return 0


def main() -> int:
    """What is asked on the command line."""
    asked = sys.argv[1:]
    if asked == ["demo"]:
        return demo()
    if len(asked) != 1 or asked[0] not in LOCKS:
        print(__doc__, file=sys.stderr)
        return 2
    build(asked[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
