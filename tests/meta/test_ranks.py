"""Meta-gradients over several processes are those of one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
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

IDLE = """
import time
from contextlib import closing
from streammeta.meta import ranks
from streammeta.meta.ranks import Ranks

ranks._BEAT_EVERY = 0.2
with closing(Ranks(patience_seconds=5.0)) as one:
    print("there", flush=True)
    if one.rank:
        one.serve(None, "cpu")
    while True:
        one.beat()
        time.sleep(0.05)
"""


def started(script: str, *arguments: str) -> list[subprocess.Popen[bytes]]:
    """Two ranks that run this."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            env=os.environ | place | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("gone", [0, 1])
def test_where_a_rank_dies_or_hangs_the_other_ends_with_the_reason(gone: int, how: signal.Signals) -> None:
    """At a stream at rest too: it waited for a year, and torchrun starts again only what has ended."""
    pytest.importorskip("torch")
    running = started(IDLE)
    try:
        for one in running:
            assert one.stdout is not None
            assert one.stdout.readline() == b"there\n"
        time.sleep(0.5)

        running[gone].send_signal(how)

        _, said = running[1 - gone].communicate(timeout=PATIENCE)
    finally:
        for one in running:
            one.kill()
            one.communicate()

    assert running[1 - gone].returncode == 1
    assert b"TransportError: another rank cannot be reached, has ended, or is silent" in said


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_two_ranks_find_the_gradient_of_one(kind: str, tmp_path: Path) -> None:
    """Shares that score nothing, fewer segments than ranks: the sum must be that of all segments, to 10⁻⁶."""
    pytest.importorskip("torch")
    running = started(SCRIPT, str(tmp_path / "apart"), kind)
    try:
        said = [one.communicate(timeout=PATIENCE)[0] for one in running]
    finally:
        for one in running:
            one.kill()
            one.communicate()

    assert [one.returncode for one in running] == [0, 0]
    assert said[1].split()[-1] == b"3"
    assert max(json.loads((tmp_path / "apart").read_text())) < 1e-6
