"""thermolab: a lab book on the thermodynamics of stochastic gradient descent.

The notebooks measure; this package is what they stand on. `claims` holds the register and the verdict rule, `systems` are
what moves, `engine` runs them, `instruments` measure, `phenomena` predict and decide, `plots` and `lab` draw, run and
tabulate. Import what you need from these; `import thermolab` alone stays light, so that the command line starts at once.
"""

__version__ = "0.1.0"
