"""The compose file: by the compose specification's schema, and its paths by looking."""

from pathlib import Path

import pytest
import yaml

from deploy.check.conftest import ROOT

FILE = ROOT / "deploy/compose.yaml"


def test_it_follows_the_compose_specification(schema_errors) -> None:
    assert schema_errors("vendor.compose-spec", FILE) == ""


def test_what_it_mounts_and_builds_from_exists() -> None:
    services = yaml.safe_load(FILE.read_text())["services"]
    mounted = [Path(one.split(":")[0]) for service in services.values() for one in service.get("volumes", ())]
    build = services["streammeta"]["build"]

    assert [path for path in mounted if str(path).startswith(".") and not (FILE.parent / path).exists()] == []
    assert (FILE.parent / build["context"] / build["dockerfile"]).is_file()
    assert f" AS {build['target']}\n" in (FILE.parent / build["context"] / build["dockerfile"]).read_text()


def test_nothing_is_open_to_other_machines() -> None:
    """It has no passwords, so its ports are on this machine only."""
    services = yaml.safe_load(FILE.read_text())["services"]

    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", ()))


def test_the_trainer_is_a_profile_and_one_variable_sets_the_members() -> None:
    """Without the profile one of the members trains; with it they only serve, or the trainer would end."""
    services = yaml.safe_load(FILE.read_text())["services"]
    trainer, member = services["trainer"], services["streammeta"]

    assert (trainer["profiles"], trainer["command"]) == (["trainer"], ["train"])
    assert trainer["environment"]["STREAMMETA_META__TRAINER"] == "separate"
    assert member["environment"]["STREAMMETA_META__TRAINER"] == "${STREAMMETA_META__TRAINER:-member}"
    assert (
        "STREAMMETA_META__TRAINER=separate docker compose -f deploy/compose.yaml --profile trainer" in FILE.read_text()
    )


def test_grafana_finds_its_numbers_and_its_dashboards() -> None:
    """By the places that the compose file mounts: else it starts, and shows nothing."""
    services = yaml.safe_load(FILE.read_text())["services"]
    mounted = dict(one.split(":")[:2] for one in services["grafana"]["volumes"])
    (source,) = yaml.safe_load((FILE.parent / "compose/grafana/datasources.yaml").read_text())["datasources"]
    (shown,) = yaml.safe_load((FILE.parent / "compose/grafana/dashboards.yaml").read_text())["providers"]

    assert mounted["./grafana/dashboards"] == shown["options"]["path"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    for name in ("datasources", "dashboards"):
        assert mounted[f"./compose/grafana/{name}.yaml"] == f"/etc/grafana/provisioning/{name}/streammeta.yaml"


def test_images_have_a_version() -> None:
    services = yaml.safe_load(FILE.read_text())["services"]

    for service in services.values():
        _, _, tag = service["image"].partition(":")
        assert tag
        assert tag != "latest"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("services:", "service:"),
        ("restart: unless-stopped", "restart: [always]"),
        ("condition: service_healthy", "condition: healthy"),
        ("profiles: [trainer]", "profiles: trainer"),
    ],
)
def test_a_broken_file_fails_the_check(right: str, wrong: str, schema_errors, tmp_path: Path) -> None:
    assert right in FILE.read_text()
    broken = tmp_path / "compose.yaml"
    broken.write_text(FILE.read_text().replace(right, wrong, 1))

    assert "validation errors" in schema_errors("vendor.compose-spec", broken)
