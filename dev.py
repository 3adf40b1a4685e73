"""Run the project's commands on a machine that has only Python.

    python3 dev.py demo               load leads from a sandbox API into PostgreSQL
    python3 dev.py test [ARGUMENT...] run the tests in parallel; arguments go to pytest
    python3 dev.py COMMAND ...        run any command of the project's environment,
                                      such as tap-mega, sandbox, meltano or ruff

Commands run in the folder of this file, and paths are relative to it.

The first call makes the environment `.venv` beside this file from `pyproject.toml`
and `constraints.txt`. When one of them changes, the next call updates it. Both
use uv. If the machine has no uv, it is installed into `.uv`. Nothing is installed
outside this folder. uv trusts the certificates of the system. If uv has no package
index of its own, it uses the index and the proxy of pip's settings. This file uses
only the standard library.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":
    # Until Ctrl-C can be handled, it ends this without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import ast
import functools
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
    "test": ("pytest", "--numprocesses=auto", "--dist=loadfile"),
}
OWN_PROGRAMS = ("demo", "sandbox")
"""These unblock SIGINT when they are ready to handle it."""
INSTALLERS = (("demo",), ("meltano", "add"), ("meltano", "install"), ("test",))
"""The commands that install packages with uv."""
ALL_TESTS = "All tests take about 10 minutes on a machine with two processors ..."

UV_CONFIGS = (
    Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "uv/uv.toml",
    Path("/etc/uv/uv.toml"),
)
FROM_PIP = {
    "cert": ("SSL_CERT_FILE",),
    "extra-index-url": ("UV_EXTRA_INDEX_URL",),
    "find-links": ("UV_FIND_LINKS",),
    "index-url": ("UV_DEFAULT_INDEX",),
    "no-index": ("UV_NO_INDEX",),
    "proxy": ("HTTPS_PROXY", "HTTP_PROXY"),
    "trusted-host": ("UV_INSECURE_HOST",),
}
"""Settings of pip, and the variables by which uv reads the same."""
OF_NETWORK = ("cert", "proxy")
UV_INDEX = re.compile(r"UV_((DEFAULT_|EXTRA_)?INDEX(_URL)?|FIND_LINKS|NO_INDEX)")
PROXY = re.compile(r"(?i)(all|https?)_proxy")

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
        "The certificate of the package index is not trusted. If a proxy signs it, add "
        "the proxy's authority to the system's certificates, or set SSL_CERT_FILE and "
        "PIP_CERT to a file with it."
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
        encoding="utf-8",
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
        print("Installing uv into .uv: 17 MB to download ...", file=sys.stderr)
        run(sys.executable, "-m", "venv", "--clear", UV_HOME)
        pip = [UV_HOME / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
        options = ["--quiet", "--no-cache-dir", "--constraint", CONSTRAINTS]
        run(*pip, "install", *options, "uv")
        complete.touch()
    return uv


def read_pip_settings() -> dict[str, str]:
    """Return pip's settings by their names. Without pip, there are none."""
    for python in (sys.executable, UV_HOME / "bin" / "python"):
        command = (python, "-m", "pip", "config", "list")
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        # `global.proxy='http://...'`; then `install.`, and variables as `:env:.`
        lines = [line.partition("=") for line in done.stdout.splitlines()]
        order = ("global.", "install.", ":env:.")
        return {
            name.removeprefix(section): ast.literal_eval(value)
            for section in order
            for name, _, value in lines
            if name.startswith(section)
        }
    return {}


def has_own_index() -> bool:
    """Return whether uv's own settings name a package index."""
    named = [it for it in os.environ if UV_INDEX.fullmatch(it)]
    texts = [it.read_text(encoding="utf-8") for it in UV_CONFIGS if it.exists()]
    return bool(named) or any(re.search(r"index|find-links", it) for it in texts)


def find_settings_for_uv() -> dict[str, str]:
    """Return pip's settings, without those that uv or the environment also has."""
    settings = read_pip_settings()
    if has_own_index():
        settings = {name: settings[name] for name in settings if name in OF_NETWORK}
    if any(PROXY.fullmatch(it) for it in os.environ):
        settings.pop("proxy", None)
    return settings


@functools.cache
def take_settings_of_pip() -> None:
    """Set the variables by which uv reads what pip's settings say."""
    settings = find_settings_for_uv()
    for name in FROM_PIP.keys() & settings:
        separator = "," if name == "find-links" else " "
        for variable in FROM_PIP[name]:
            os.environ.setdefault(variable, separator.join(settings[name].split()))
    if "extra-index-url" in settings:
        # As pip does: the best version of all indexes.
        os.environ.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")


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
    take_settings_of_pip()
    if found[0] != python:
        print(
            "Making the environment .venv: about 110 MB to download, "
            "and 450 MB on the disk ...",
            file=sys.stderr,
        )
        run(uv, "venv", "--quiet", "--clear", "--python", base, ENVIRONMENT)
    else:
        print("Updating the environment .venv ...", file=sys.stderr)
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
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("UV_SYSTEM_CERTS", "true")
    prepare()
    if any((command, *arguments)[: len(it)] == it for it in INSTALLERS):
        take_settings_of_pip()
    if (command, *arguments) == ("test",):
        print(ALL_TESTS, file=sys.stderr)
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
        sys.exit(
            f"dev.py needs Python {needed} or newer. Run: python{needed} dev.py ..."
        )
    if sys.argv[1:2] in ([], ["-h"], ["--help"]):
        print(__doc__)
    else:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            main(*sys.argv[1:])
        except KeyboardInterrupt:
            print("\nStopped. The same command starts again.", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
