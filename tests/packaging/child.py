"""What a user runs after installing the wheel: the README's example and a replay, watched. Run by ``test_wheel.py``."""

import json
import os
import runpy
import sys
from pathlib import Path

_HIDDEN = frozenset(sys.argv[3:])
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND
_CHANGING = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.move", "tempfile.mkstemp", "tempfile.mkdtemp"}
_STARTING = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty"}
seen: list[str] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING and arguments[0] != os.devnull:
        seen.append(f"writes {arguments[0]}")
    elif event in _CHANGING | _STARTING:
        seen.append(f"{event} {arguments[0]}")


class _Hide:
    """Says of some packages that they are not installed."""

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if name.partition(".")[0] in _HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


if __name__ == "__main__":
    sys.meta_path.insert(0, _Hide())
    example, events = sys.argv[1:3]
    sys.addaudithook(_watch)
    runpy.run_path(example)

    import streammeta

    review = streammeta.replay(Path(events))
    sys.stdout.write(json.dumps({"from": streammeta.__file__, "events": review.figures["events"], "seen": seen}))
