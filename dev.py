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

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
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


def find_uv() -> Path:
    """Return the path of uv. If the machine has none, install it into `.uv`."""
    if found := shutil.which("uv"):
        return Path(found)
    # This keeps uv's downloads in this folder too, also when Meltano runs it.
    os.environ.setdefault("UV_CACHE_DIR", str(UV_HOME / "cache"))
    uv = UV_HOME / "bin" / "uv"
    if not uv.exists():
        print("Installing uv into .uv …", file=sys.stderr)
        venv.create(UV_HOME, clear=True, with_pip=True)
        pip = [UV_HOME / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
        options = ["--quiet", "--no-cache-dir", "--constraint", CONSTRAINTS]
        subprocess.run([*pip, "install", *options, "uv"], check=True)
    return uv


def make_environment() -> None:
    """Install into `.venv` what `pyproject.toml` and `constraints.txt` list.

    Raises:
        subprocess.CalledProcessError: uv or pip failed. It prints the reason.
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
    print("Making the environment .venv …", file=sys.stderr)
    if found[0] != python:
        make = ["venv", "--quiet", "--clear", "--python", base]
        subprocess.run([uv, *make, ENVIRONMENT], check=True)
    options = ["--quiet", "--python", ENVIRONMENT, "--constraint", CONSTRAINTS]
    packages = ["--editable", ROOT, "--group", f"{ROOT / 'pyproject.toml'}:dev"]
    subprocess.run([uv, "pip", "install", *options, *packages], check=True)
    stamp.write_text(json.dumps(wanted))


def main(command: str, *arguments: str) -> None:
    """Replace this process with a command of the environment."""
    try:
        make_environment()
    except subprocess.CalledProcessError as error:
        failed = " ".join(map(str, error.cmd))
        sys.exit(
            f"dev.py: this command failed, see above: {failed}\n"
            "If `venv` or `ensurepip` is missing, install uv or install `venv` "
            "(on Debian and Ubuntu: `apt install python3-venv`)."
        )
    os.chdir(ROOT)
    os.environ["VIRTUAL_ENV"] = str(ENVIRONMENT)
    os.environ["PATH"] = f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ['PATH']}"
    program, *options = COMMANDS.get(command, (command,))
    found = shutil.which(program)
    if not found:
        sys.exit(f"dev.py: there is no command {program!r} in .venv or on the PATH")
    os.execv(found, [program, *options, *arguments])  # noqa: S606 - it is meant to


if __name__ == "__main__":
    if sys.version_info < MINIMUM_PYTHON:
        needed = ".".join(map(str, MINIMUM_PYTHON))
        sys.exit(f"dev.py needs Python {needed} or newer. Run: python{needed} dev.py …")
    if sys.argv[1:2] in ([], ["-h"], ["--help"]):
        print(__doc__)
    else:
        main(*sys.argv[1:])
