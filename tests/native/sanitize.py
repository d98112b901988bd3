"""Runs the kernels' tests on a build that checks every access: ``python -m tests.native.sanitize FOLDER`` of its wheel."""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

_TESTS = [
    "tests/native",
    "tests/meta/exact/test_exact_gradient.py",
    "tests/engine/test_buffer.py",
    "tests/engine/test_moments.py",
]
_TESTS += [
    "tests/engine/test_staleness.py",
    "tests/engine/experts",
    "tests/engine/drift",
    "tests/engine/test_admission.py",
]
_TESTS += ["tests/engine/test_features.py", "tests/engine/test_judge.py", "tests/engine/test_scale.py"]
_TESTS += ["tests/decisions/test_scoring.py", "tests/decisions/test_decision_engine.py"]


def _library(name: str) -> str:
    found = subprocess.run(["c++", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def main(folder: Path) -> int:
    """Exit status of the tests; the sanitizer ends them at the first fault, and says where it is."""
    newest = max(folder.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    # the second because the first looks up its throw when the process begins
    libraries = " ".join(_library(name) for name in ("libasan.so", "libstdc++.so"))
    with tempfile.TemporaryDirectory() as place:
        with zipfile.ZipFile(newest) as archive:
            archive.extractall(place)
        options = {"LD_PRELOAD": libraries, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONPATH": place}
        options["UBSAN_OPTIONS"] = "print_stacktrace=1"
        # the editable installation of the clone must not be found first
        code = (
            "import sys, pytest; sys.path.insert(0, sys.argv[1]); sys.meta_path[:] = [one for one in sys.meta_path if 'Redirect' not in type(one).__name__]; "
            "import streammeta.native._kernels as kernels; assert kernels.__file__.startswith(sys.argv[1]), kernels.__file__; "
            "sys.exit(pytest.main(['-q', '-p', 'no:randomly', '--timeout=900', '-o', 'pythonpath=', *sys.argv[2:]]))"
        )
        command = [sys.executable, "-c", code, place, *_TESTS]
        return subprocess.run(command, env=os.environ | options, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
