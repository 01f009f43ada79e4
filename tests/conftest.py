"""For all tests: one thread for torch, as arrays are small and other tests may run beside them; pictures without a window."""

import os

import matplotlib.pyplot as plt
import pytest
import torch

os.environ["THERMOLAB_STORE"] = ""  # tests measure, whatever was measured before; those of the store name a folder
collect_ignore_glob = ["*conftest.py"]  # they hold no doctests, and files of one name get into each other's way


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_window():
    """Pictures go to memory, and none is left over."""
    before = plt.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(before)
