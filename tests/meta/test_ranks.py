"""Meta-gradients over several processes are those of one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PATIENCE = 120.0
SCRIPT = """
import json, sys
import numpy as np
from streammeta.engine.settings import EngineSettings
from streammeta.engine.factory import make_method
from streammeta.meta.base import Episodes
from streammeta.meta.names import Slot
from streammeta.meta.ranks import Ranks

settings = EngineSettings(kind=sys.argv[2])
method, ranks = make_method(settings), Ranks()
if ranks.rank:
    print(ranks.serve(method.gradient, "cpu"))
else:
    random = np.random.default_rng(1)
    theta = method.grow(method.init(), [Slot(n, None, 3) for n in "abc"], ["u", "v"] if sys.argv[2][0] == "c" else [0])
    E, L = method.members, 24
    apart = []
    for B in (1, 3, 8):
        x = random.normal(size=(E, B, L, 3)).astype(np.float32)
        y = random.integers(2, size=(E, B, L)) if sys.argv[2][0] == "c" else x.sum(-1)
        valid = np.ones((E, B, L), np.float32)
        scored = (random.random((E, B, L)) < 0.5).astype(np.float32)
        scored[0, 0] = 0
        scored[0, -1, -1] = 1
        episodes = Episodes(x, y, valid, scored)
        value, wanted = method.gradient(theta, episodes, "cpu")
        found_value, found = ranks.averaged(method.gradient)(theta, episodes, "cpu")
        scale = max(float(np.abs(p).max()) for p in wanted.values())
        apart.append(max(float(np.abs(found[n] - p).max()) for n, p in wanted.items()) / scale)
    open(sys.argv[1], "w").write(json.dumps(apart))
ranks.close()
"""


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_two_ranks_find_the_gradient_of_one(kind: str, tmp_path: Path) -> None:
    """Shares that score nothing, fewer segments than ranks: the sum must be that of all segments, to 10⁻⁶."""
    pytest.importorskip("torch")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "apart"), kind]
    running = [
        subprocess.Popen(command, env=os.environ | place | {"RANK": str(rank)}, stdout=subprocess.PIPE)
        for rank in range(2)
    ]
    try:
        said = [one.communicate(timeout=PATIENCE)[0] for one in running]
    finally:
        for one in running:
            one.kill()

    assert [one.returncode for one in running] == [0, 0]
    assert said[1].split()[-1] == b"3"
    assert max(json.loads((tmp_path / "apart").read_text())) < 1e-6
