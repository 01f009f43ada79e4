"""Temperature collapse of overparameterised models (notebook 02, arXiv:2505.23489).

theory: closed forms of points on a sphere. Recipes, each with the checks of its claims: toy and falling, SGD on such points where
no w fits them all and where one does; stationary and training, states of perceptrons over η and the way there (`networks`);
convnets, the same for small ConvNets; ordinary, weight decay in place of the sphere; plateau and metastable, a saddle and a
false minimum, and how each is left. curves: what several of these read off U(η) and S(η). presets: what the notebook measures
and keeps. exercises: the checks of its exercises. Imported by themselves: figures, what it shows, and live, what runs in its
panels.
"""

from thermolab.phenomena.temperature_collapse import (  # noqa: F401
    convnets,
    curves,
    exercises,
    falling,
    metastable,
    networks,
    ordinary,
    plateau,
    presets,
    stationary,
    theory,
    toy,
    training,
)
