"""Progressive sharpening: what uneven label noise does to curvature (notebook 06; document 4, part 4, and document 2).

theory, hessian: closed forms and exact curvature. setting: networks and noisy answers. settled, switch, starts, orbit, cause:
the recipes for two layers; edge, language: descent at the edge of stability, and a small language. claims (with a claims_… for
each part): the verdicts they decide. live: what runs in the panels. exercises: the checks of the notebook's exercises. sizes:
what each preset measures.
"""

from thermolab.phenomena.progressive_sharpening import (
    cause,
    claims,
    edge,
    exercises,
    language,
    live,
    orbit,
    presets,
    settled,
    starts,
    switch,
    theory,
)

__all__ = [
    "cause",
    "claims",
    "edge",
    "exercises",
    "language",
    "live",
    "orbit",
    "presets",
    "settled",
    "starts",
    "switch",
    "theory",
]
