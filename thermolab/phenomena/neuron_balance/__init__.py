"""Neuron balance: equipartition of squared gradients between weights that can be rescaled (notebook 04, documents 4 and 2).

theory: closed forms. setting: data, starts and gradients. networks, linear, architectures: the recipes that measure. claims (with
claims_networks and claims_architectures): the verdicts they decide. live: what runs in the panel. exercises: the checks of the
notebook's exercises. sizes: what each preset measures.
"""

from thermolab.phenomena.neuron_balance import architectures, claims, exercises, linear, live, networks, presets, theory

__all__ = ["architectures", "claims", "exercises", "linear", "live", "networks", "presets", "theory"]
