"""What to expect: closed forms, the recipes that measure, the claims they decide; and the table of what runs live."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from thermolab import claims

if TYPE_CHECKING:
    from types import ModuleType

    from thermolab.engine.scenario import Scenario


# what scenarios were called in logs of before version 0.2, which replay as ever
FORMERLY = {
    "temperature-collapse.network": "temperature_collapse.network",
    "temperature-collapse.points": "temperature_collapse.points",
    "ideal-gas.isotropic": "ideal_gas.isotropic",
    "ideal-gas.network": "ideal_gas.network",
    "neuron-balance.network": "neuron_balance.network",
    "platonic-alignment.pair": "platonic_alignment.pair",
    "sharpening.network": "progressive_sharpening.network",
    "sharpening.edge": "progressive_sharpening.edge",
}


def package(notebook: str) -> ModuleType:
    """The package of a notebook's phenomenon, imported: what decides its claims has entered itself. KeyError for another name."""
    return importlib.import_module(f"{__name__}.{claims.phenomena()[notebook]}")


def scenarios() -> dict[str, Scenario]:
    """All scenarios by name, former ones included: the fixed table in which a log's recipe is looked up."""
    from thermolab.phenomena.cooling import live as cooling
    from thermolab.phenomena.ideal_gas import live as ideal_gas
    from thermolab.phenomena.irreversibility import live as irreversibility
    from thermolab.phenomena.neuron_balance import live as neuron_balance
    from thermolab.phenomena.platonic_alignment import live as platonic_alignment
    from thermolab.phenomena.progressive_sharpening import live as progressive_sharpening
    from thermolab.phenomena.temperature_collapse import live as temperature_collapse
    from thermolab.phenomena.your_network import live as your_network

    known = (
        irreversibility.LANDSCAPE,
        irreversibility.WALKER,
        irreversibility.CLOUD,
        cooling.IMAGES,
        temperature_collapse.NETWORK,
        temperature_collapse.POINTS,
        ideal_gas.ISOTROPIC,
        ideal_gas.NETWORK,
        neuron_balance.NETWORK,
        platonic_alignment.PAIR,
        progressive_sharpening.NETWORK,
        progressive_sharpening.EDGE,
        your_network.NETWORK,
    )
    found = {s.name: s for s in known}
    return found | {old: found[new] for old, new in FORMERLY.items() if new in found}
