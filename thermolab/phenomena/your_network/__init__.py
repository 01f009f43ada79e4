"""Your own network: what the theory claims of any network, asked of one from a menu or of one that you bring (notebook 07).

theory: identities and laws. networks: the menu, and what a file's `make()` brings. measure: a run and all that is read of it.
trained, sweep: the recipe and the claims that it decides. capstone: what alignment is owed to. scorecard: the same claims for an
experiment of your own. presets: what the notebook measures. figures: what it shows (not imported here: processes that measure
need no plots). live: what runs in its panel. exercises: what is said about answers to them.
"""

from thermolab.phenomena.your_network import (  # noqa: F401
    capstone,
    exercises,
    live,
    measure,
    networks,
    presets,
    scorecard,
    sweep,
    theory,
    trained,
)
