"""The image's file, by hadolint, and what it copies, by looking. That it builds and runs: `make image-check`."""

import re
from pathlib import Path

import pytest

from deploy.check.conftest import ROOT

FILE = ROOT / "deploy/Dockerfile"


def test_hadolint_finds_nothing_to_complain_of(tool) -> None:
    done = tool("hadolint", "--failure-threshold", "info", FILE)

    assert done.returncode == 0, done.stdout + done.stderr


def test_what_it_copies_exists_and_is_not_ignored() -> None:
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.+)$", FILE.read_text(), re.MULTILINE)
        for word in line.split()[:-1]
    ]
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]

    assert copied
    for name in copied:
        assert (ROOT / name).exists(), name
        assert any(name == one or name.startswith(one + "/") for one in let_through), name


def test_it_runs_as_nobody_and_says_how_it_is() -> None:
    text = FILE.read_text()
    last = text[text.index(" AS run") :]

    assert "USER 10001:10001" in last
    assert "HEALTHCHECK" in last
    assert "g++" not in last
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in last


@pytest.mark.parametrize("name", ["serve", "train", "uv"])
def test_packages_are_locked_by_hash_and_name_no_place(name: str) -> None:
    text = (ROOT / f"deploy/image/{name}.txt").read_text()
    packages = re.findall(r"^[a-z0-9-]+==", text, re.MULTILINE)

    assert packages
    assert len(re.findall(r"^[a-z0-9._-]+==[^\\\n]+\\\n    --hash=sha256:", text, re.MULTILINE)) == len(packages)
    assert "://" not in text


def test_the_service_has_no_pytorch_and_the_same_versions_as_the_tests() -> None:
    """What runs is what was tested."""
    tested = set(re.findall(r"^([a-z0-9-]+==[^ ]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    serve = set(re.findall(r"^([a-z0-9-]+==[^ ]+)", (ROOT / "deploy/image/serve.txt").read_text(), re.MULTILINE))
    train = set(re.findall(r"^([a-z0-9-]+==[^ ]+)", (ROOT / "deploy/image/train.txt").read_text(), re.MULTILINE))

    assert serve - tested == set()
    assert train - tested == set()
    assert not [one for one in serve if re.match(r"torch|triton|nvidia|cuda", one)]
    assert [one for one in train if one.startswith("torch==")]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("WORKDIR /scratch", "WORKDIR scratch"),
        ('ENTRYPOINT ["streammeta"]', "ENTRYPOINT streammeta"),
        ("RUN groupadd", "RUN cd / && groupadd"),
    ],
)
def test_a_broken_file_fails_the_check(right: str, wrong: str, tool, tmp_path: Path) -> None:
    assert right in FILE.read_text()
    broken = tmp_path / "Dockerfile"
    broken.write_text(FILE.read_text().replace(right, wrong))

    assert tool("hadolint", "--failure-threshold", "info", broken).returncode != 0
