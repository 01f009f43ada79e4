"""What a preset changes of what a notebook asks for."""

from __future__ import annotations


def n_seeds(preset: str, wanted: int, *, smoke: int) -> int:
    """Independent repetitions: those wanted, at preset smoke `smoke` at the most."""
    return min(wanted, smoke) if preset == "smoke" else wanted
