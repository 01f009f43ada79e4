"""The menu, what a file makes, and every mistake in it as one line."""

import pytest
import torch
from torch import nn

from thermolab.phenomena.your_network import networks
from thermolab.systems.network import NetworkOnData

GOOD = """
import torch
from torch import nn
from helper import WIDTH

def make():
    x = torch.linspace(-1, 1, 40)[:, None]
    return nn.Sequential(nn.Linear(1, WIDTH), nn.PReLU(), nn.Linear(WIDTH, 2)), (x, (x[:, 0] > 0).long())
"""


@pytest.fixture
def write(tmp_path):
    """write(text): "FILE:make" of a file of that text, with a neighbour that it may import."""
    (tmp_path / "helper.py").write_text("WIDTH = 5")

    def to_file(text, name="make"):
        (tmp_path / "mine.py").write_text(text)
        return f"{tmp_path / 'mine.py'}:{name}"

    return to_file


@pytest.mark.parametrize("images", networks.IMAGES)
@pytest.mark.parametrize("name", networks.MENU)
def test_the_menu_learns_both_kinds_of_images(name, images):
    made = networks.find(name, images)
    weights = made.starts([3, 4])
    assert weights.shape == (2, made.system.n_parameters)
    out = torch.empty_like(weights)
    x, y = (t[:8].expand(2, *t[:8].shape) for t in (made.system.data.x, made.system.data.y))
    assert made.system.replicas.loss_and_gradient(weights, x, y, out).isfinite().all()
    assert (out != 0).any()


def test_a_seed_is_the_modules_own_start(write):
    made = networks.find(write(GOOD))
    (one, other, again) = made.starts([1, 2, 1])
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    torch.manual_seed(1)
    fresh = nn.Sequential(nn.Linear(1, 5), nn.PReLU(), nn.Linear(5, 2))
    assert torch.equal(one, nn.utils.parameters_to_vector(fresh.parameters()))
    assert one[10] == 0.25  # of PReLU, which a Gaussian start would throw away


def test_random_numbers_of_others_are_left_alone(write):
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    networks.find(write(GOOD)).starts([1, 2])
    assert torch.equal(torch.rand(3), wanted)


def test_a_loss_of_ones_own_and_a_network_with_its_data(write):
    own = GOOD.replace("> 0).long())", "> 0).long()), lambda f, y: f.square().mean()")
    assert callable(networks.find(write(own)).system.replicas.loss_function)
    ready = "from thermolab.phenomena.your_network import networks\n\ndef make():\n    return networks.find('mlp').system"
    made = networks.find(write(ready))
    assert isinstance(made.system, NetworkOnData)
    assert made.starts([1]).shape == (1, made.system.n_parameters)


def test_numbers_are_learnt_with_squared_error(write):
    assert networks.find(write(GOOD.replace("(x[:, 0] > 0).long()", "torch.cat([x, x], 1)"))).system.replicas.loss == "squared"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("make = 3", "is no function"),
        ("def make(:", "stops with SyntaxError"),
        ("import nothing_of_that_name", "stops with ModuleNotFoundError"),
        ("def other(): ...", "has no make; it defines: other"),
        ("def make(): 1 / 0", "stops with ZeroDivisionError: division by zero"),
        ("def make(): ...", "returns NoneType; make() must return"),
        ("def make(): return 1, 2", "returns (int, int)"),
        ("from torch import nn\ndef make(): return nn.Linear(1, 1), [1, 2]", "no two tensors (x, y)"),
        (GOOD.replace("(x, (x[:, 0] > 0).long())", "(x, x[:7])"), "40 inputs and 7 targets"),
        (GOOD.replace(".long())", ".long()), 'hinge'"), "loss='hinge' is unknown"),
    ],
    ids=lambda x: x[:30],
)
def test_a_mistake_is_one_line(write, text, said):
    with pytest.raises(ValueError, match=r"mine\.py") as error:
        networks.find(write(text))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("place", "said"), [("mpl", "allowed: mlp, cnn"), ("none.py:make", "there is no file none.py")])
def test_what_is_not_there_is_one_line(place, said):
    with pytest.raises(ValueError, match=r"mpl|none") as error:
        networks.find(place)
    assert said in str(error.value)


def test_a_cell_of_a_notebook_is_read_by_other_processes(monkeypatch, tmp_path):
    import linecache

    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    text = GOOD.replace("from helper import WIDTH", "WIDTH = 3")
    linecache.cache["<cell 1>"] = (len(text), None, text.splitlines(True), "<cell 1>")
    names = {}
    exec(compile(text, "<cell 1>", "exec"), names)
    place = networks.written(names["make"])
    assert networks.find(place).system.n_parameters == 3 + 3 + 1 + 6 + 2
    assert networks.written(names["make"]) == place
    assert networks.written(lambda: None) is None
    assert networks.written(None) is None
