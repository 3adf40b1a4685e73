"""Everything that a developer runs here, on a machine that has only Python.

    python3 dev.py demo               a sandbox API, PostgreSQL, and leads in it
    python3 dev.py test [ARGUMENT …]  every test; arguments go to pytest
    python3 dev.py COMMAND …          any command of the project's environment,
                                      such as tap-mega, sandbox, meltano or ruff

Each runs in this file's folder, and paths are relative to it.

The environment is made at the first call, in `.venv` beside this file, from
`pyproject.toml` and `constraints.txt`; and again when one of them has changed.
It is made by uv: yours where you have it, else one that is fetched into `.uv`.
Nothing is installed outside this folder. Only the standard library is used here.
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
    """Return the path of uv; fetch it into `.uv` where the machine has none."""
    if found := shutil.which("uv"):
        return Path(found)
    # Its downloads stay in this folder as well, also those that Meltano makes.
    os.environ.setdefault("UV_CACHE_DIR", str(UV_HOME / "cache"))
    uv = UV_HOME / "bin" / "uv"
    if not uv.exists():
        print("Fetching uv into .uv …", file=sys.stderr)
        venv.create(UV_HOME, clear=True, with_pip=True)
        pip = [UV_HOME / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
        options = ["--quiet", "--no-cache-dir", "--constraint", CONSTRAINTS]
        subprocess.run([*pip, "install", *options, "uv"], check=True)
    return uv


def make_environment() -> None:
    """Make `.venv` hold what `pyproject.toml` and `constraints.txt` ask for."""
    uv = find_uv()
    base = Path(sys.executable).resolve()  # also of the environment's own Python
    python = f"{base} {sys.version} {ENVIRONMENT}"
    wishes = (ROOT / "pyproject.toml").read_bytes() + CONSTRAINTS.read_bytes()
    wanted = [python, hashlib.sha256(wishes).hexdigest()]
    stamp = ENVIRONMENT / "made-from.json"
    made = json.loads(stamp.read_text()) if stamp.exists() else [None, None]
    if made == wanted:
        return
    print("Making the environment .venv …", file=sys.stderr)
    if made[0] != python:
        make = ["venv", "--quiet", "--clear", "--python", base]
        subprocess.run([uv, *make, ENVIRONMENT], check=True)
    options = ["--quiet", "--python", ENVIRONMENT, "--constraint", CONSTRAINTS]
    packages = ["--editable", ROOT, "--group", f"{ROOT / 'pyproject.toml'}:dev"]
    subprocess.run([uv, "pip", "install", *options, *packages], check=True)
    stamp.write_text(json.dumps(wanted))


def main(command: str, *arguments: str) -> None:
    """Run a command in the environment, in the place of this process."""
    try:
        make_environment()
    except subprocess.CalledProcessError as error:
        what = " ".join(map(str, error.cmd))
        sys.exit(
            f"dev.py: this failed, see above: {what}\n"
            "Where `venv` or `ensurepip` is what is missing: install it (on Debian "
            "and Ubuntu `apt install python3-venv`), or install uv."
        )
    os.chdir(ROOT)
    os.environ["VIRTUAL_ENV"] = str(ENVIRONMENT)
    os.environ["PATH"] = f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ['PATH']}"
    program, *given = COMMANDS.get(command, (command,))
    found = shutil.which(program)
    if not found:
        sys.exit(f"dev.py: no command {program!r} in .venv or on the PATH")
    os.execv(found, [program, *given, *arguments])  # noqa: S606  # that is the purpose


if __name__ == "__main__":
    if sys.version_info < MINIMUM_PYTHON:
        needed = ".".join(map(str, MINIMUM_PYTHON))
        sys.exit(f"dev.py needs Python {needed} or newer: python{needed} dev.py …")
    if sys.argv[1:2] in ([], ["-h"], ["--help"]):
        print(__doc__)
    else:
        main(*sys.argv[1:])
