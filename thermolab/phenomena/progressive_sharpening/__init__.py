"""Progressive sharpening: what uneven label noise does to curvature (notebook 06; document 4, part 4, and document 2).

theory: closed forms. two_layers: networks that learn noisy answers. Recipes, each with the checks of its claims: settled, switch,
starts, orbit and subspaces for two layers; cause for two networks with views of their own; edge, batch and adam_edge, at the edge
of stability; architectures, a ConvNet and a transformer; language, on the words of next_words. presets: what the notebook
measures. live: what runs in its panels. exercises: the checks of its exercises. figures: what it shows, imported by itself, for
processes that measure do not draw.
"""

from thermolab.phenomena.progressive_sharpening import (
    adam_edge,
    architectures,
    batch,
    cause,
    edge,
    exercises,
    language,
    live,
    orbit,
    presets,
    settled,
    starts,
    subspaces,
    switch,
    theory,
)

__all__ = [
    "adam_edge",
    "architectures",
    "batch",
    "cause",
    "edge",
    "exercises",
    "language",
    "live",
    "orbit",
    "presets",
    "settled",
    "starts",
    "subspaces",
    "switch",
    "theory",
]
