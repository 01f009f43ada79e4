"""The ideal gas of scale-invariant training (notebook 03, arXiv:2511.07308).

theory: closed forms. isotropic, transients, network: the recipes that measure, each beside the checks of its claims.
compare: slopes, minima and relations drawn from the measurements. presets: what the notebook measures, and what it keeps.
figures: its pictures. published: the authors' numbers beside ours. live: what runs in the panels. exercises: feedback to answers.
"""

from thermolab.phenomena.ideal_gas import (  # noqa: F401  with the recipes their claims enter themselves
    compare,
    exercises,
    figures,
    isotropic,
    live,
    network,
    presets,
    published,
    theory,
    transients,
)
