"""Irreversibility: the entropic force and the symmetries that it breaks (notebook 00, document 4).

Recipes, each beside the check of what it decides: flows (on the small perceptron of `landscape`), symmetry_recipes (on the table
of `symmetries`, to which anybody may add a row), walk, valley, continual, clean_labels, cloud. presets: what notebook 00 measures
and keeps. live: what runs in its panels. exercises: the checks of its exercises. figures: what it shows; imported alone, for the
processes that measure need nothing that draws.
"""

from thermolab.phenomena.irreversibility import clean_labels as clean_labels
from thermolab.phenomena.irreversibility import cloud as cloud
from thermolab.phenomena.irreversibility import continual as continual
from thermolab.phenomena.irreversibility import exercises as exercises
from thermolab.phenomena.irreversibility import flows as flows
from thermolab.phenomena.irreversibility import live as live
from thermolab.phenomena.irreversibility import presets as presets
from thermolab.phenomena.irreversibility import symmetries as symmetries
from thermolab.phenomena.irreversibility import symmetry_recipes as symmetry_recipes
from thermolab.phenomena.irreversibility import valley as valley
from thermolab.phenomena.irreversibility import walk as walk
