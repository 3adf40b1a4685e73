"""Test `dev.py` with a uv that does what a test wants."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from tests.tables import ROOT

FILES = ("dev.py", "pyproject.toml", "constraints.txt")
WORKING_UV = """
echo "uv $1" >> calls
mkdir -p .venv/bin
printf '#!/bin/sh\\necho hello "$@"\\n' > .venv/bin/hello
chmod +x .venv/bin/hello
echo 'Downloading mypy (14.7MiB)'
echo ' + mypy==2.0'
"""

FULL_DISK = "The disk is full. Free about 500 MB"
READ_ONLY = "This folder cannot be written to"
OFFLINE = "The package index cannot be reached"
CERTIFICATE = "The certificate of the package index is not trusted"
UNKNOWN = "This failed, see above: "
FAILURES = {  # texts of uv and pip
    "failed to write to file `/x`: No space left on device (os error 28)": FULL_DISK,
    "due to an OSError: [Errno 28] No space left": FULL_DISK,
    "failed to create directory `/x`: Read-only file system (os error 30)": READ_ONLY,
    "Error: [Errno 13] Permission denied: '/srv/tap-mega/.venv'": READ_ONLY,
    "client error (Connect)\n  cause: dns error": OFFLINE,
    "to establish a new connection: [Errno -3] Temporary failure in name": OFFLINE,
    "Failed to fetch: `https://x/`\n  cause: tunnel error: Proxy refused": OFFLINE,
    "error (Connect)\n  cause: invalid peer certificate: UnknownIssuer": CERTIFICATE,
    "because ensurepip is not available. On Debian": "This Python has no `venv`",
    "error: the build failed": UNKNOWN,
}


class Project:
    """A copy of the files that `dev.py` needs."""

    def __init__(self, folder: Path) -> None:
        """Copy the files into an empty folder."""
        self.folder = folder
        for name in FILES:
            shutil.copy(ROOT / name, folder)

    def start(self, uv: str, **variables: str) -> subprocess.Popen[str]:
        """Start `dev.py hello you`, with a shell script as uv, without other settings.

        Args:
            uv: The script.
            **variables: Environment variables.
        """
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True)
        (programs / "uv").write_text(f"#!/bin/sh\n{uv}\n")
        (programs / "uv").chmod(0o755)
        return subprocess.Popen(
            (sys.executable, "dev.py", "hello", "you"),
            cwd=self.folder,
            env={
                "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
                "HOME": str(self.folder),
                "PIP_CONFIG_FILE": str(self.folder / "pip.conf"),
                **variables,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, uv: str, **variables: str) -> tuple[int, str, str]:
        """Run `dev.py hello you`; return exit code, stdout and stderr."""
        with self.start(uv, **variables) as process:
            stdout, stderr = process.communicate()
        return process.returncode, stdout, stderr


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project without an environment."""
    return Project(tmp_path)


def test_the_first_call_shows_size_and_progress(project: Project) -> None:
    """It says how much is downloaded, and prints uv's lines but not each package."""
    code, stdout, stderr = project.run(WORKING_UV)
    assert (code, stdout) == (0, "hello you\n")
    assert "about 110 MB to download, and 450 MB on the disk" in stderr
    assert "Downloading mypy (14.7MiB)\n" in stderr
    assert "mypy==2.0" not in stderr


def test_the_next_call_installs_nothing(project: Project) -> None:
    """Only a change of the requirements updates the environment."""
    project.run(WORKING_UV)
    assert project.run(WORKING_UV) == (0, "hello you\n", "")
    assert (project.folder / "calls").read_text() == "uv venv\nuv pip\n"
    with (project.folder / "constraints.txt").open("a") as file:
        file.write("x==1\n")
    assert "Updating the environment .venv" in project.run(WORKING_UV)[2]


@pytest.mark.parametrize(("output", "advice"), FAILURES.items())
def test_a_failure_gives_the_advice_that_fits(
    project: Project, output: str, advice: str
) -> None:
    """The output of what failed is shown, and the last line says what to do."""
    code, _, stderr = project.run(f"echo {shlex.quote(output)} >&2; exit 2")
    assert code == 1
    assert output in stderr
    assert stderr.splitlines()[-1].startswith(f"dev.py: {advice}")


def test_a_file_that_cannot_be_made_gives_advice(project: Project) -> None:
    """An error of the operating system is no traceback."""
    code, _, stderr = project.run("exit 0")  # It makes no `.venv`.
    assert code == 1
    assert "No such file or directory" in stderr
    assert stderr.splitlines()[-1].startswith(f"dev.py: {UNKNOWN}")


def test_ctrl_c_during_the_installation_is_one_line(project: Project) -> None:
    """It ends the installation, and says so without a traceback."""
    with project.start("echo $$; exec sleep 600") as process:
        stderr = t.cast("t.IO[str]", process.stderr)
        while not (line := stderr.readline().strip()).isdecimal():
            pass
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[1]
    assert rest == "\nStopped. The same command starts again.\n"
    assert process.returncode == 128 + signal.SIGINT
    assert not Path(f"/proc/{line}").exists()


PIP = """
[global]
index-url = https://mirror.example/simple
extra-index-url =
    https://a.example/simple
    https://b.example/simple
proxy = http://proxy.example:3128
cert = /etc/proxy.pem
[install]
find-links = /srv/wheels /srv/more
"""
FROM_PIP = {
    "UV_DEFAULT_INDEX": "https://mirror.example/simple",
    "UV_EXTRA_INDEX_URL": "https://a.example/simple https://b.example/simple",
    "UV_INDEX_STRATEGY": "unsafe-best-match",
    "UV_FIND_LINKS": "/srv/wheels,/srv/more",
}
OF_NETWORK = {
    "HTTPS_PROXY": "http://proxy.example:3128",
    "HTTP_PROXY": "http://proxy.example:3128",
    "SSL_CERT_FILE": "/etc/proxy.pem",
}


def settings_of_uv(project: Project, **variables: str) -> dict[str, str]:
    """Return the variables that uv gets, besides those of the process."""
    (project.folder / "pip.conf").write_text(PIP)
    project.run(f"env > variables\n{WORKING_UV}", **variables)
    lines = (project.folder / "variables").read_text().splitlines()
    names = (*FROM_PIP, *OF_NETWORK, "UV_SYSTEM_CERTS", *variables)
    pairs = (line.partition("=") for line in lines)
    return {name: value for name, _, value in pairs if name in names}


def test_uv_takes_index_and_proxy_of_pip(project: Project) -> None:
    """What works for pip works for uv, which also trusts the system's authorities."""
    found = settings_of_uv(project)
    assert found.items() >= {**FROM_PIP, **OF_NETWORK}.items()
    assert found["UV_SYSTEM_CERTS"] == "true"


def test_variables_of_pip_come_before_its_files(project: Project) -> None:
    """As for pip itself."""
    url = "https://other.example/simple"
    assert settings_of_uv(project, PIP_INDEX_URL=url)["UV_DEFAULT_INDEX"] == url


def test_an_index_of_uv_is_kept(project: Project) -> None:
    """Whether a variable names it or a file: then no index of pip is added."""
    url = "https://uv.example/simple"
    found = settings_of_uv(project, UV_INDEX_URL=url)
    assert found == {"UV_INDEX_URL": url, "UV_SYSTEM_CERTS": "true", **OF_NETWORK}
    file = project.folder / ".config" / "uv" / "uv.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f'index-url = "{url}"\n')
    shutil.rmtree(project.folder / ".venv")
    assert settings_of_uv(project) == {"UV_SYSTEM_CERTS": "true", **OF_NETWORK}


def test_a_proxy_of_the_environment_is_kept(project: Project) -> None:
    """Then pip's proxy is not used."""
    found = settings_of_uv(project, all_proxy="http://mine.example")
    assert "HTTPS_PROXY" not in found


def test_settings_of_pip_reach_no_other_command(project: Project) -> None:
    """The tap does not use the proxy of pip."""
    project.run(WORKING_UV)
    (project.folder / "pip.conf").write_text(PIP)
    hello = project.folder / ".venv" / "bin" / "hello"
    hello.write_text("#!/bin/sh\nenv\n")
    _, stdout, _ = project.run(WORKING_UV)
    assert "proxy.example" not in stdout
    assert "PYTHONUTF8=1" in stdout.splitlines()


def test_it_works_in_any_locale(project: Project) -> None:
    """`dev.py` and `meltano.yml` are ASCII."""
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    code, _, stderr = project.run(WORKING_UV, **ascii_only)
    assert (code, stderr.isascii()) == (0, True)
    for name in ("dev.py", "meltano.yml"):
        assert (ROOT / name).read_bytes().isascii()
