"""Test the wheel in an environment that contains nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
import zipfile
from pathlib import Path

import pytest

from tests.tables import PROJECT, ROOT, pythons

UV = Path(sys.executable).parent / "uv"


def output(*command: str | Path) -> str:
    """Run a command in the root folder, and return its output."""
    return subprocess.check_output(command, cwd=ROOT, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from this folder, unless `DIST` names the folder of one."""
    folder = Path(os.environ.get("DIST") or tmp_path_factory.mktemp("dist"))
    if "DIST" not in os.environ:
        output(UV, "build", "--quiet", "--wheel", "--out-dir", folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def tap_mega(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel with its dependencies only, and return the command."""
    venv = tmp_path_factory.mktemp("venv")
    output(UV, "venv", "--quiet", "--clear", "--python", sys.executable, venv)
    options = ("--quiet", "--python", venv, "--constraint", "constraints.txt")
    output(UV, "pip", "install", *options, wheel)
    return venv / "bin" / "tap-mega"


def test_it_contains_only_the_package(wheel: Path) -> None:
    """The wheel has the type marker and the vendor's document, and no tests."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {"tap_mega/py.typed", "tap_mega/openapi/openapi.json"} <= set(names)
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"tap_mega", f"{wheel.name.rpartition('-py3')[0]}.dist-info"}


def test_the_command_runs_alone(tap_mega: Path) -> None:
    """The command prints its version, its name and the Pythons that it supports."""
    assert PROJECT["version"] in output(tap_mega, "--version")
    about: dict[str, t.Any] = json.loads(output(tap_mega, "--about", "--format=json"))
    assert about["name"] == PROJECT["name"]
    assert about["supported_python_versions"] == pythons()
