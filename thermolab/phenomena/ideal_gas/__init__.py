"""The ideal gas of scale-invariant training (notebook 03, arXiv:2511.07308).

theory: closed forms. isotropic, transients, network: the recipes that measure. live: what runs in the panels.
compare: slopes, minima and relations drawn from the measurements. claims: the verdicts they decide.
published: the authors' numbers beside ours. exercises: the checks of the notebook's exercises. sizes: what each preset measures.
"""

from thermolab.phenomena.ideal_gas import (
    claims,
    compare,
    exercises,
    isotropic,
    live,
    network,
    presets,
    published,
    theory,
    transients,
)

__all__ = ["claims", "compare", "exercises", "isotropic", "live", "network", "presets", "published", "theory", "transients"]
