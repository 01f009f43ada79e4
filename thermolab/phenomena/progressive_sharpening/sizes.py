"""What each preset of notebook 06 measures: keyword arguments of the recipes. What is empty is their default, preset lab."""

from __future__ import annotations

RECIPES = ("profiles", "here", "switches", "steep", "scratch", "adams", "orbits", "pair", "edge", "language")
SIZES: dict[str, dict[str, dict]] = {
    "lab": {name: {} for name in RECIPES},
    "smoke": {name: {} for name in RECIPES},
}
SMOKE_SEEDS = 3


def n_seeds(preset: str, wanted: int) -> int:
    """Independent repetitions: those wanted, at smoke three at the most."""
    return min(wanted, SMOKE_SEEDS) if preset == "smoke" else wanted
