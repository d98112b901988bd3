"""The default learner on a CPU, where PyTorch cannot be imported."""

import subprocess
import sys

import pytest

_HIDDEN = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide())
from importlib import metadata
known = metadata.distribution
def distribution(name):
    if name == "torch":
        raise metadata.PackageNotFoundError(name)
    return known(name)
metadata.distribution = distribution
"""
_ESTIMATORS = """
from streammeta import MetaClassifier, MetaRegressor
one, other = MetaClassifier(), MetaRegressor()
for i in range(120):
    x = {"a": float(i % 7), "b": float(i % 3)}
    one.learn_one(x, i % 7 > 3)
    other.learn_one(x, float(i % 7))
assert one.predict_one({"a": 6.0, "b": 1.0}) and not one.predict_one({"a": 0.0, "b": 1.0})
assert abs(other.predict_one({"a": 5.0, "b": 1.0}) - 5) < 1
"""
_SERVICE = """
from prometheus_client import CollectorRegistry
from streammeta.app import parts, serve
from streammeta.config import load
from streammeta.event import Event, Origin
from streammeta.service.metrics import Metrics
Metrics(CollectorRegistry())
engine = parts.new_engine(load())
engine.step([Event({"x": float(i)}, "t", Origin("here", 0, i), y=i % 2) for i in range(400)])
assert engine.stats().meta_updates > 0
engine.close()
"""


_REPLAY = """
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from streammeta import cli
with TemporaryDirectory() as folder:
    page, figures = Path(folder, "a.html"), Path(folder, "a.json")
    sys.argv = ["streammeta", "replay", "stagger", "--limit", "300", "--html", str(page), "--json", str(figures)]
    try:
        cli.main()
    except SystemExit as end:
        assert not end.code, end.code
    versions = json.loads(figures.read_text())["versions"]
    assert "torch" not in versions and versions["river"], versions
    assert "</html>" in page.read_text()
"""


@pytest.mark.parametrize("code", [_ESTIMATORS, _SERVICE, _REPLAY], ids=["estimators", "service", "replay"])
def test_it_learns_without_pytorch(code: str) -> None:
    """Three gigabytes of CUDA and 600 MB of memory for who computes nothing with them; a wheel for servers has none."""
    done = subprocess.run(
        [sys.executable, "-c", _HIDDEN + code + '\nassert "torch" not in sys.modules'],
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "stagger", "--limit", "100", "--learner", "maml"], "[learner] method: 'maml' wants PyTorch"),
        (
            ["meta-train", "maml", "sinusoids", "--out", "no.safetensors"],
            "this command wants PyTorch, which is not installed; install torch",
        ),
    ],
    ids=["method", "command"],
)
def test_what_needs_pytorch_says_so_in_one_line(arguments: list[str], said: str) -> None:
    """A traceback says to a user that the program is broken; it only lacks a package."""
    code = _HIDDEN + f'from streammeta import cli\nsys.argv = ["streammeta", *{arguments!r}]\ncli.main()'

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=110)

    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


def test_a_gpu_without_pytorch_says_what_is_missing() -> None:
    """Else an ImportError from deep inside, after the service has joined its group."""
    code = _HIDDEN + 'from streammeta.engine.shared import device\nprint(device("auto"))\ndevice("cuda")'

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=110)

    assert "'cuda' wants PyTorch, which is not installed; install torch, or use cpu" in done.stderr
