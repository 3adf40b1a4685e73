"""Virtual environments for programs that the project does not depend on."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import typing as t
from pathlib import Path

if t.TYPE_CHECKING:
    from collections.abc import Sequence

UV = Path(sys.executable).with_name("uv")


def make_environment(
    folder: Path, packages: Sequence[str], constraints: Path | None = None
) -> None:
    """Make a virtual environment, unless the folder already has it.

    Args:
        folder: The folder of the environment.
        packages: The requirements to install.
        constraints: A file with the versions to install.

    Raises:
        subprocess.CalledProcessError: uv failed. It prints the reason.
    """
    options = ["--constraint", str(constraints)] if constraints else []
    versions = constraints.read_text(encoding="utf-8") if constraints else ""
    inputs = "\n".join([sys.version, str(folder), *packages, versions])
    digest = hashlib.sha256(inputs.encode()).hexdigest()
    stamp = folder / "made-from"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
        return
    print(f"Installing {' '.join(packages)} into {folder} …", file=sys.stderr)
    make = ("venv", "--quiet", "--clear", "--python", sys.executable, folder)
    subprocess.run([UV, *make], check=True)
    install = ("pip", "install", "--quiet", "--python", folder)
    subprocess.run([UV, *install, *options, *packages], check=True)
    stamp.write_text(digest, encoding="utf-8")
