"""Where a number came from: versions, git revision, machine."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import thermolab

PACKAGES = ("torch", "numpy", "scipy", "numba", "scikit-learn", "xarray", "h5netcdf", "papermill", "ipykernel")


def version(package: str) -> str | None:
    """The installed version of a package, None if it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """The versions that a result may depend on."""
    own = {"thermolab": thermolab.__version__, "python": platform.python_version(), "platform": platform.platform()}
    return own | {package: version(package) for package in PACKAGES}


def git_revision() -> str | None:
    """The commit of the checkout, "-dirty" if it has changes; None outside of one or before its first commit."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
