"""`thermolab doctor`: versions, device and threads, and what is missing."""

from __future__ import annotations

import platform
import re
import sys
import tomllib
from importlib import metadata

from thermolab.lab import browser, job, provenance, runner, start

OPTIONAL = {
    "jupyterlab": "make lab",
    "pytest": "make test",
    "nbval": "make test",
    "playwright": "make test",
    "jax": "make bench",
}


def main() -> int:
    """Print the report; 1 if something needed is missing, else 0."""
    needed = {name: provenance.version(name) for name in _needed()}
    missing = [name for name, found in needed.items() if found is None]
    for name, value in {**_machine(missing), **needed}.items():
        print(f"{name:<14} {value or 'MISSING'}")
    for name, use in OPTIONAL.items():
        print(f"{name:<14} {provenance.version(name) or f'missing, wanted by {use}'}")
    if missing:
        print(f"missing: {', '.join(missing)}; set up with: make lab")
    return bool(missing)


def _needed() -> list[str]:
    """The packages that thermolab asks for without an extra."""
    try:
        lines = metadata.requires("thermolab") or []
    except metadata.PackageNotFoundError:  # used from a checkout without installing
        lines = tomllib.loads((start.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    return [re.match(r"[\w.-]+", line)[0] for line in lines if "extra ==" not in line]


def _machine(missing: list[str]) -> dict[str, str]:
    return {
        "python": f"{platform.python_version()} at {sys.executable}",
        "platform": platform.platform(),
        "processors": str(job.cpus()),
        **({} if "torch" in missing else _torch()),
        "chromium": browser.CHROMIUM or "missing, wanted by the browser tests of make test",
        "notebooks": str(runner.notebooks_folder()),
        "git revision": provenance.git_revision() or "unknown",
    }


def _torch() -> dict[str, str]:
    import torch

    cuda = torch.cuda.is_available()
    device = f"cuda: {torch.cuda.get_device_name()}" if cuda else "cpu"
    return {"device": device, "torch threads": str(torch.get_num_threads())}
