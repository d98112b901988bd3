"""The kustomize base and overlays, built by kustomize; every object against its schema, and beside what the chart renders."""

import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.check.conftest import ROOT
from deploy.check.test_chart import objects, pods, trainer_setting, validate, variables

FOLDER = ROOT / "deploy/kustomize"
BUILDS = ("base", "overlays/trainer", "overlays/production")
_OF_HELM = ("app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart")

Build = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def built(tool) -> Build:
    """The objects of a folder with a kustomization."""

    @cache
    def text(name: str, folder: Path) -> str:
        done: subprocess.CompletedProcess[str] = tool("kustomize", "build", folder / name)
        if done.returncode:
            raise AssertionError(done.stderr)
        return done.stdout

    def build(name: str, folder: Path = FOLDER) -> list[dict[str, Any]]:
        return list(yaml.load_all(text(name, folder), yaml.CSafeLoader))

    return build


@pytest.mark.parametrize("name", BUILDS)
def test_every_object_follows_the_schema_of_its_kind(name: str, built: Build) -> None:
    things = built(name)

    assert {"StatefulSet", "Service", "ConfigMap", "PodDisruptionBudget"} <= {one["kind"] for one in things}
    for one in things:
        validate(one)


@pytest.mark.parametrize("name", BUILDS)
def test_streammeta_takes_the_settings_and_the_files_that_they_name_are_mounted(
    name: str, built: Build, tmp_path: Path
) -> None:
    """By its own reader; and pods name the ConfigMap with the hash of its content, or a change would not reach them."""
    things = built(name)
    (config,) = objects(things, "ConfigMap")
    (tmp_path / "streammeta.toml").write_text(config["data"]["streammeta.toml"])

    for pod in pods(things):
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        named = [value for key, value in variables(pod).items() if key.endswith(("_FILE", "_CAFILE"))]
        assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
        assert all(any(value.startswith(f"{path}/") for path in mounts.values()) for value in named)
        assert {"name": "config", "configMap": {"name": config["metadata"]["name"]}} in pod["volumes"]
    settings = {trainer_setting(variables(pod), tmp_path) for pod in pods(things)}
    assert settings == ({"separate"} if name == "overlays/trainer" else {"member"})


def test_the_base_and_the_trainer_are_what_the_chart_renders(built: Build, rendered, tmp_path: Path) -> None:
    """Two descriptions of one thing drift apart, and the one that nobody runs is wrong."""
    values = tmp_path / "values.yaml"
    values.write_text("{}")
    with_trainer = tmp_path / "trainer.yaml"
    with_trainer.write_text("trainer: {enabled: true}")

    for name, file in (("base", values), ("overlays/trainer", with_trainer)):
        ours = {(one["kind"], one["metadata"]["name"]): plain(one) for one in built(name)}
        charts = {(one["kind"], one["metadata"]["name"]): plain(one) for one in rendered(file, release="streammeta")}
        (config,) = [key for key in ours if key[0] == "ConfigMap"]
        assert ours.pop(config)["data"] == charts.pop(("ConfigMap", "streammeta"))["data"]
        assert ours == charts


def plain(thing: dict[str, Any]) -> dict[str, Any]:
    """Without what Helm alone writes, and without the hash in the ConfigMap's name."""
    metadata = [thing["metadata"], thing.get("spec", {}).get("template", {}).get("metadata", {})]
    for one in metadata:
        for label in _OF_HELM:
            one.get("labels", {}).pop(label, None)
        one.pop("annotations", None)
    for volume in thing.get("spec", {}).get("template", {}).get("spec", {}).get("volumes", ()):
        if "configMap" in volume:
            volume["configMap"] = {"name": "streammeta"}
    return thing


BROKEN = {
    "base/statefulset.yaml": ("readOnlyRootFilesystem", "readOnlyRootFileSystem"),
    "base/service.yaml": ("clusterIP: None", "clusterIP: [None]"),
    "base/serviceaccount.yaml": ("automountServiceAccountToken", "automountToken"),
    "base/poddisruptionbudget.yaml": ("maxUnavailable", "maxUnavailible"),
    "base/kustomization.yaml": ("configMapGenerator:", "configMapGenerators:"),
    "overlays/trainer/deployment.yaml": ("strategy: {type", "strategy: {kind"),
    "overlays/trainer/kustomization.yaml": ("/containers/0/env/-", "/containers/1/env/-"),
    "overlays/production/kustomization.yaml": ("closed-kafka.yaml", "closed-kafkas.yaml"),
    "overlays/production/closed-kafka.yaml": ("secretName: kafka-ca", "secret: kafka-ca"),
    "overlays/production/networkpolicy.yaml": ("podSelector:", "podSelectors:"),
}


@pytest.mark.parametrize("file", BROKEN)
def test_a_broken_file_fails_the_check(file: str, built: Build, tmp_path: Path) -> None:
    copy = tmp_path / "kustomize"
    shutil.copytree(FOLDER, copy)
    right, wrong = BROKEN[file]
    broken = copy / file
    assert right in broken.read_text()
    broken.write_text(broken.read_text().replace(right, wrong))
    name = "base" if file.startswith("base/") else str(Path(file).parent)

    with pytest.raises((AssertionError, kubernetes_validate.ValidationError)):  # of kustomize, of the schema
        list(map(validate, built(name, copy)))


def test_every_file_is_broken_once() -> None:
    """A file that no test breaks may be one that no test reads; settings files are read by streammeta itself."""
    files = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml")}

    assert files == set(BROKEN)
