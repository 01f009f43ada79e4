import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """As in the workers of a recipe: small tensors gain nothing from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
