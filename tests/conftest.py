"""One thread for torch: the arrays of the tests are small, and other tests may run beside them."""

import pytest
import torch

collect_ignore_glob = ["*conftest.py"]  # they hold no doctests, and files of one name get into each other's way


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
