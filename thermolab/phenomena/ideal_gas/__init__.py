"""The ideal gas of scale-invariant training (notebook 03, arXiv:2511.07308).

theory: closed forms. isotropic, transients, reference, network, twin, epochs: the recipes that measure, each beside the checks
of its claims.
compare: slopes, minima and relations drawn from the measurements. presets: what the notebook measures, and what it keeps.
live: what runs in the panels. exercises: feedback to answers. figures, and published, the authors' numbers beside ours: what the
notebook shows; imported by themselves, for processes that measure do not draw.
"""

from thermolab.phenomena.ideal_gas import (
    compare,
    epochs,
    exercises,
    isotropic,
    live,
    network,
    presets,
    reference,
    theory,
    transients,
    twin,
)

__all__ = [
    "compare",
    "epochs",
    "exercises",
    "isotropic",
    "live",
    "network",
    "presets",
    "reference",
    "theory",
    "transients",
    "twin",
]
