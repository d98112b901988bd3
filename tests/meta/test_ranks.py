"""Meta-gradients over several processes are those of one, by the wire that torchrun's processes have."""

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
from safetensors.numpy import load, save
from streammeta.meta.base import Episodes
from streammeta.meta.ranks import Ranks
from tests.engine.test_parallel import KNOWN, learned
import msgspec
from streammeta.engine.parallel import Names

with Ranks() as ranks:
    kind = sys.argv[2]
    engine = learned(kind, *KNOWN[ranks.rank], ranks.rank)
    method, parallel = engine.memory.method, engine.parallel()
    names = ranks.gathered(msgspec.msgpack.encode(parallel.new_names()))
    if ranks.rank:
        parallel.follow(ranks.given())
    else:
        parallel.know(msgspec.msgpack.decode(names[1], type=Names))
        ranks.give(parallel.new_theta())
    apart = []
    for places in ([[0, 3, 4], [1, 2, 5]], [[], [0, 1]], [[2], []], [[1], [4, 5, 0, 2, 3]]):
        mine = parallel.draw(3, ranks.rank, places[ranks.rank])
        if ranks.rank:  # of one member nothing is scored here
            mine.scored[0] = 0
        if not places[0]:
            mine.scored[0, :1, -1] = mine.valid[0, :1, -1]
        parts = ranks.gathered(save(mine._asdict()))

        value = []
        class Noted:
            total = ranks.total
            def over_all(self, gradient, scored):
                def kept(*arguments):
                    value.append(ranks.over_all(gradient, scored)(*arguments))
                    return value[0]
                return kept
        theta = engine.meta_state.theta
        parallel.learn(mine, Noted())

        if ranks.rank:
            parallel.follow(ranks.given())
        else:
            parts = [Episodes(**load(part)) for part in parts]
            union = Episodes(*(np.concatenate(arrays, 1) for arrays in zip(*parts, strict=True)))
            wanted_value, wanted = method.gradient(theta, union, "cpu")
            scale = max(float(np.abs(p).max()) for p in wanted.values())
            apart.append(max(float(np.abs(value[0][1][n] - p).max()) for n, p in wanted.items()) / scale)
            ranks.give(parallel.new_theta())
    version = engine.stats().theta_version
    open(f"{sys.argv[1]}.{ranks.rank}", "w").write(json.dumps([apart, version, len(engine.memory.features)]))
"""

LONG = """
import json, sys
from streammeta.meta.ranks import Ranks

with Ranks() as ranks:
    found = []
    for size in (1, 65_535, 65_536, 65_537, 200_000):
        data = bytes(i % 251 for i in range(size))
        if ranks.rank == 0:
            ranks.give(data)
        elif ranks.given() != data:
            found.append(size)
        said = ranks.gathered(data[: size // 2] if ranks.rank == 0 else data)
        if ranks.rank == 0 and said != [data[: size // 2], data]:
            found.append(-size)
    print(json.dumps(found))
"""

IDLE = """
import time
from streammeta.meta import ranks
from streammeta.meta.ranks import Ranks

ranks._BEAT_EVERY = 0.2
with Ranks(patience_seconds=5.0) as one:
    print("there", flush=True)
    if one.rank:
        one.given()
    while True:
        one.beat()
        time.sleep(0.05)
"""

FAILING = """
import sys
from streammeta.meta.ranks import Ranks

with Ranks(patience_seconds=60.0) as one:
    if one.rank == 0:
        raise ValueError("what rank 0 met")
    one.gathered(b"an answer that nobody waits for")
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


def all_said(running: list[subprocess.Popen[bytes]]) -> list[bytes]:
    """What each wrote to its standard error, once all have ended."""
    try:
        return [one.communicate(timeout=PATIENCE)[1] for one in running]
    finally:
        for one in running:
            one.kill()
            one.communicate()


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


def test_messages_of_any_length_come_over_as_they_were() -> None:
    """θ of many features is longer than what goes in one part."""
    pytest.importorskip("torch")
    running = started(LONG)
    try:
        said = [one.communicate(timeout=PATIENCE) for one in running]
    finally:
        for one in running:
            one.kill()
            one.communicate()

    assert [out.split() for out, _ in said] == [[b"[]"], [b"[]"]], said


def test_where_rank_0_meets_an_error_the_others_end_at_once() -> None:
    """They answer something that it does not wait for any more: an end in order would not be understood."""
    pytest.importorskip("torch")
    running = started(FAILING)
    begun = time.monotonic()
    said = all_said(running)

    assert [one.returncode for one in running] == [1, 1]
    assert b"what rank 0 met" in said[0]
    assert b"TransportError: another rank cannot be reached" in said[1]
    assert time.monotonic() - begun < 40.0


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_two_ranks_find_the_gradient_of_one(kind: str, tmp_path: Path) -> None:
    """Each draws of tasks with features and a class that the other has not seen: the sum is that of all, to 10⁻⁶.

    In one case a rank has no segments, in all of them a member scores nothing at rank 1, or next to nothing.
    """
    pytest.importorskip("torch")
    running = started(SCRIPT, str(tmp_path / "apart"), kind)
    said = all_said(running)

    assert [one.returncode for one in running] == [0, 0], said
    (apart, version, features), (_, followed, known) = (
        json.loads((tmp_path / f"apart.{rank}").read_text()) for rank in range(2)
    )
    assert len(apart) == 4
    assert max(apart) < 1e-6
    assert (version, followed) == (4, 4)
    assert features == known == 4
