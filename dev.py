"""Run the project's commands on a machine that has only Python.

    python3 dev.py demo               load leads from a sandbox API into PostgreSQL
    python3 dev.py test [ARGUMENT …]  run the tests; arguments go to pytest
    python3 dev.py COMMAND …          run any command of the project's environment,
                                      such as tap-mega, sandbox, meltano or ruff

Commands run in the folder of this file, and paths are relative to it.

The first call makes the environment `.venv` beside this file from `pyproject.toml`
and `constraints.txt`. When one of them changes, the next call updates it. Both
use uv. If the machine has no uv, it is installed into `.uv`. Nothing is installed
outside this folder. This file uses only the standard library.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":
    # Until Ctrl-C can be handled, it ends this without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

MINIMUM_PYTHON = (3, 11)
ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
UV_HOME = ROOT / ".uv"
CONSTRAINTS = ROOT / "constraints.txt"
COMMANDS = {
    "demo": ("python", "-m", "demo"),
    "sandbox": ("python", "-m", "sandbox"),
    "test": ("pytest",),
}
OWN_PROGRAMS = ("demo", "sandbox")
"""These unblock SIGINT when they are ready to handle it."""

CAUSES = {
    r"No space left|Disk quota exceeded": (
        "The disk is full. Free about 500 MB, and run this again."
    ),
    r"Read-only file system|Permission denied": (
        "This folder cannot be written to. Copy the project to a folder of your own, "
        "and run this again there."
    ),
    r"ensurepip|No module named '?venv": (
        "This Python has no `venv`. Install it (on Debian and Ubuntu: "
        "`apt install python3-venv`) or install uv, and run this again."
    ),
    r"(?i)certificate|UnknownIssuer": (
        "The certificate of the package index is not trusted. If a proxy signs it, set "
        "SSL_CERT_FILE and PIP_CERT to a file with the proxy's authority."
    ),
    r"(?i)dns error|name resolution|connection|connect\)|timed out|proxy": (
        "The package index cannot be reached. The first call needs a network "
        "connection; behind a proxy, set HTTPS_PROXY."
    ),
}
"""What can fail: a pattern of the output, and the advice. The first match counts."""


class InstallError(Exception):
    """The environment cannot be made. The message says why and what to do."""

    def __init__(self, output: str, action: str) -> None:
        """Find the cause in the output of what failed."""
        matches = (it for text, it in CAUSES.items() if re.search(text, output))
        super().__init__(next(matches, f"This failed, see above: {action}"))


def run(*command: str | Path) -> None:
    """Run a command, and print its output except for the list of what it installed.

    Raises:
        InstallError: The command failed.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches this process only.
    )
    lines = []
    with process:
        try:
            for line in process.stdout or ():
                lines.append(line)
                if not line.startswith((" + ", " - ", " ~ ")):
                    print(line, end="", file=sys.stderr, flush=True)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise InstallError("".join(lines), " ".join(map(str, command)))


def find_uv() -> Path:
    """Return the path of uv. If the machine has none, install it into `.uv`."""
    if found := shutil.which("uv"):
        return Path(found)
    # This keeps uv's downloads in this folder too, also when Meltano runs it.
    os.environ.setdefault("UV_CACHE_DIR", str(UV_HOME / "cache"))
    uv, complete = UV_HOME / "bin" / "uv", UV_HOME / "complete"
    if not complete.exists():
        print("Installing uv into .uv: 17 MB to download …", file=sys.stderr)
        run(sys.executable, "-m", "venv", "--clear", UV_HOME)
        pip = [UV_HOME / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
        options = ["--quiet", "--no-cache-dir", "--constraint", CONSTRAINTS]
        run(*pip, "install", *options, "uv")
        complete.touch()
    return uv


def make_environment() -> None:
    """Install into `.venv` what `pyproject.toml` and `constraints.txt` list.

    Raises:
        InstallError: Something failed, such as the network or the disk.
    """
    uv = find_uv()
    base = Path(sys.executable).resolve()  # If this runs in .venv, its base Python.
    python = f"{base} {sys.version} {ENVIRONMENT}"
    inputs = (ROOT / "pyproject.toml").read_bytes() + CONSTRAINTS.read_bytes()
    wanted = [python, hashlib.sha256(inputs).hexdigest()]
    stamp = ENVIRONMENT / "made-from.json"
    found = json.loads(stamp.read_text()) if stamp.exists() else [None, None]
    if found == wanted:
        return
    if found[0] != python:
        print(
            "Making the environment .venv: about 110 MB to download, "
            "and 450 MB on the disk …",
            file=sys.stderr,
        )
        run(uv, "venv", "--quiet", "--clear", "--python", base, ENVIRONMENT)
    else:
        print("Updating the environment .venv …", file=sys.stderr)
    options = ["--python", ENVIRONMENT, "--constraint", CONSTRAINTS]
    packages = ["--editable", ROOT, "--group", f"{ROOT / 'pyproject.toml'}:dev"]
    run(uv, "pip", "install", *options, *packages)
    stamp.write_text(json.dumps(wanted))


def prepare() -> None:
    """Make the environment. If this fails, exit with one line."""
    try:
        make_environment()
    except InstallError as error:
        sys.exit(f"dev.py: {error}")
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(f"dev.py: {InstallError(str(error), 'making the environment')}")


def main(command: str, *arguments: str) -> None:
    """Replace this process with a command of the environment."""
    prepare()
    os.chdir(ROOT)
    os.environ["VIRTUAL_ENV"] = str(ENVIRONMENT)
    os.environ["PATH"] = f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ['PATH']}"
    program, *options = COMMANDS.get(command, (command,))
    found = shutil.which(program)
    if not found:
        sys.exit(f"dev.py: there is no command {program!r} in .venv or on the PATH")
    if command in OWN_PROGRAMS:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.execv(found, [program, *options, *arguments])  # noqa: S606 - it is meant to


if __name__ == "__main__":
    if sys.version_info < MINIMUM_PYTHON:
        needed = ".".join(map(str, MINIMUM_PYTHON))
        sys.exit(f"dev.py needs Python {needed} or newer. Run: python{needed} dev.py …")
    if sys.argv[1:2] in ([], ["-h"], ["--help"]):
        print(__doc__)
    else:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            main(*sys.argv[1:])
        except KeyboardInterrupt:
            print("\nStopped. The same command starts again.", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
