"""What a preset changes of what a notebook asks for."""

from __future__ import annotations


def n_seeds(preset: str, wanted: int, *, smoke: int) -> int:
    """Independent repetitions: those wanted, at preset smoke `smoke` at the most."""
    return min(wanted, smoke) if preset == "smoke" else wanted


def common(setup, *, smoke: int) -> dict:
    """The settings that all recipes of a notebook take from its checked parameters: seed, n_seeds and device."""
    return {"seed": setup.seed, "n_seeds": n_seeds(setup.preset, setup.n_seeds, smoke=smoke), "device": setup.device}
