"""The example of a service, with a real Kafka."""

import subprocess
import sys
from pathlib import Path

from tests.broker.running import RunningBroker

EXAMPLE = Path(__file__).parents[2] / "examples" / "service.py"


def test_the_services_example_reads_a_prediction_for_each_event(
    broker: RunningBroker, topic: str, tmp_path: Path
) -> None:
    """What a newcomer copies first must work."""
    done = subprocess.run(
        [sys.executable, EXAMPLE, broker.bootstrap, topic], cwd=tmp_path, capture_output=True, text=True, timeout=110
    )

    assert done.returncode == 0, done.stderr
    assert "500 predictions; the last one: {" in done.stdout
