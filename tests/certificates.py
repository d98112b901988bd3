"""Certificates for tests, made by the machine's openssl: an authority, and what it signed."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

__all__ = ["Pair", "authority", "signed"]


class Pair(NamedTuple):
    certificate: Path
    key: Path


def openssl(*arguments: str) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine, which makes the certificates of this test")
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


def authority(directory: Path, name: str = "authority") -> Pair:
    """One that signed itself."""
    pair = Pair(directory / f"{name}.pem", directory / f"{name}.key")
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
        *("-subj", f"/CN={name}", "-keyout", str(pair.key), "-out", str(pair.certificate)),
    )
    return pair


def signed(directory: Path, name: str, by: Pair) -> Pair:
    """A certificate of NAME for localhost, in PEM."""
    pair, request = Pair(directory / f"{name}.pem", directory / f"{name}.key"), directory / f"{name}.csr"
    extensions = directory / f"{name}.ext"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}"),
        *("-keyout", str(pair.key), "-out", str(request)),
    )
    openssl(
        *("x509", "-req", "-in", str(request), "-CA", str(by.certificate), "-CAkey", str(by.key), "-CAcreateserial"),
        *("-days", "2", "-extfile", str(extensions), "-out", str(pair.certificate)),
    )
    return pair
