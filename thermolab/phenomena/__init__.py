"""What to expect: closed forms, the recipes that measure, the claims they decide; and the table of what runs live."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from thermolab.engine.scenario import Scenario


NOTEBOOKS = {
    "00_irreversibility": "irreversibility",
    "01_cooling": "cooling",
    "02_temperature_collapse": "temperature_collapse",
    "03_ideal_gas": "ideal_gas",
    "04_neuron_balance": "neuron_balance",
    "05_platonic_alignment": "platonic_alignment",
    "06_progressive_sharpening": "progressive_sharpening",
}


def package(notebook: str) -> ModuleType:
    """The package of a notebook's phenomenon, imported: what decides its claims has entered itself. KeyError for another name."""
    return importlib.import_module(f"{__name__}.{NOTEBOOKS[notebook]}")


def scenarios() -> dict[str, Scenario]:
    """All scenarios by name: the fixed table in which a log's recipe is looked up."""
    from thermolab.phenomena.cooling import live as cooling
    from thermolab.phenomena.ideal_gas import live as ideal_gas
    from thermolab.phenomena.irreversibility import live as irreversibility
    from thermolab.phenomena.neuron_balance import live as neuron_balance
    from thermolab.phenomena.platonic_alignment import live as platonic_alignment
    from thermolab.phenomena.progressive_sharpening import live as progressive_sharpening
    from thermolab.phenomena.temperature_collapse import live as temperature_collapse

    known = (
        irreversibility.LANDSCAPE,
        irreversibility.WALKER,
        cooling.IMAGES,
        temperature_collapse.NETWORK,
        temperature_collapse.POINTS,
        ideal_gas.ISOTROPIC,
        ideal_gas.NETWORK,
        neuron_balance.NETWORK,
        platonic_alignment.PAIR,
        progressive_sharpening.NETWORK,
        progressive_sharpening.EDGE,
    )
    return {s.name: s for s in known}
