"""What a process that measures loads before its first job: imported once by the fork server, it is there in all workers."""

import signal
import sys

if any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    # this is the server: Interrupt reaches the whole group of processes, and is for its parent to answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)

import torch
import torch.fx.experimental.symbolic_shapes  # torch.autograd.grad would import it, and sympy, at its first call

from thermolab.systems import isotropic, network, random  # noqa: F401

random.indices(0, torch.zeros(1), 0, n=1, batch_size=1, high=1)  # numba reads its own libraries at its first call
