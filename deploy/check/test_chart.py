"""The Helm chart, rendered by helm with each file of values; every object against the schema of its kind."""

import json
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule

from deploy.check.conftest import CHART, KUBERNETES, ROOT

VALUES = sorted((CHART / "ci").glob("*.yaml"))
CUSTOM = {"PodMonitor": PodMonitor, "PrometheusRule": PrometheusRule, "ScaledObject": ScaledObject}
STRIMZI = {"KafkaTopic", "KafkaUser"}  # no package has their schemas; see test_strimzi_objects


def validate(thing: dict[str, Any]) -> None:
    """Against its schema; a field that the schema does not know is an error."""
    kind = thing["kind"]
    if kind in CUSTOM:
        read = CUSTOM[kind].model_validate(thing)
        unknown = lost(thing, json.loads(read.model_dump_json(by_alias=True, exclude_unset=True)))
        assert not unknown, f"{kind} has no {unknown}"
    elif kind not in STRIMZI:
        kubernetes_validate.validate(thing, KUBERNETES.rpartition(".")[0], strict=True)


def lost(given: Any, kept: Any, place: str = "") -> list[str]:
    """Where something was given that the model did not keep, as it does not know it."""
    if isinstance(given, dict):
        missing = [f"{place}.{key}" for key in given if key not in kept]
        return missing + [one for key in given if key in kept for one in lost(given[key], kept[key], f"{place}.{key}")]
    if isinstance(given, list):
        return [one for at, (a, b) in enumerate(zip(given, kept, strict=True)) for one in lost(a, b, f"{place}[{at}]")]
    return []


def objects(things: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in things if one["kind"] == kind]


def pods(things: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the pods of members, and of the trainer where there is one, are made of."""
    return [one["spec"]["template"]["spec"] for kind in ("StatefulSet", "Deployment") for one in objects(things, kind)]


def variables(pod: dict[str, Any]) -> dict[str, str]:
    """The container's environment; of a variable that is there twice the last one, as Kubernetes does."""
    (container,) = pod["containers"]
    return {one["name"]: one.get("value", "pod-0") for one in container["env"]}


def test_helm_finds_nothing_to_complain_of(tool) -> None:
    done = tool("helm", "lint", CHART, "--strict", "--kube-version", KUBERNETES)

    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_six_files_of_values() -> None:
    assert len(VALUES) >= 6


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_every_object_follows_the_schema_of_its_kind(values: Path, rendered) -> None:
    things = rendered(values)

    assert {"StatefulSet", "Service", "ConfigMap"} <= {one["kind"] for one in things}
    for one in things:
        validate(one)


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_names_are_unique_and_volumes_that_are_mounted_exist(values: Path, rendered) -> None:
    things = rendered(values)
    names = [(one["kind"], one["metadata"]["name"]) for one in things]

    assert len(set(names)) == len(names)
    for pod in pods(things):
        (container,) = pod["containers"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        for name, value in variables(pod).items():
            if name.endswith(("_FILE", "_CAFILE", "_CERTFILE", "_KEYFILE")):
                assert any(value.startswith(mount["mountPath"] + "/") for mount in container["volumeMounts"])


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_streammeta_takes_the_configuration_and_the_variables(values: Path, rendered, tmp_path: Path) -> None:
    """By its own reader, in its own environment: a setting of another name would stop each pod."""
    things = rendered(values)
    config = objects(things, "ConfigMap")[0]["data"]["streammeta.toml"]
    tomllib.loads(config)
    (tmp_path / "streammeta.toml").write_text(config)

    trainers = {trainer_setting(variables(pod), tmp_path) for pod in pods(things)}

    assert trainers == ({"separate"} if objects(things, "Deployment") else {"member"})


def trainer_setting(environment: dict[str, str], folder: Path) -> str:
    """[meta] trainer, as streammeta reads it in a pod with these variables and ``folder``'s configuration."""
    for name in environment:
        if name.endswith("_FILE"):  # it is read at once
            secret = folder / name
            secret.write_text("not-a-secret\n")
            environment[name] = str(secret)
    code = "import sys; from pathlib import Path; from streammeta.config import load; "
    done = subprocess.run(
        [
            ROOT / ".venv/bin/python",
            "-c",
            code + "print(load(Path(sys.argv[1])).meta.trainer)",
            folder / "streammeta.toml",
        ],
        env={"PATH": "/usr/bin:/bin"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_a_pod_may_do_little(values: Path, rendered) -> None:
    """Not root, nothing written but into the scratch volume, no token, no variable made of a Service's name."""
    secret = "PASS" + "WORD"
    for pod in pods(rendered(values)):
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False  # STREAMMETA_PORT would look like a setting
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not [name for name in variables(pod) if secret in name and not name.endswith("_FILE")]


def test_one_trainer_at_a_time_with_an_image_and_a_user_of_its_own_beside_members_that_only_serve(rendered) -> None:
    """Two would take θ from each other; a selector that fits both would mix their pods."""
    things = rendered(CHART / "ci/8-trainer.yaml")
    (members,), (trainer,) = objects(things, "StatefulSet"), objects(things, "Deployment")
    (container,) = trainer["spec"]["template"]["spec"]["containers"]
    env = [variables(one["spec"]["template"]["spec"]) for one in (members, trainer)]
    secrets = [{v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v} for pod in pods(things)]
    ours = [one["spec"]["selector"]["matchLabels"] for one in (members, trainer)]
    (monitor,) = objects(things, "PodMonitor")
    (policy,) = objects(things, "NetworkPolicy")

    assert (trainer["spec"]["replicas"], trainer["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert container["image"] == "registry.example.com/streammeta:train-0.1.0"
    assert container["command"] == [
        *("torchrun", "--standalone", "--nproc-per-node", "2", "--max-restarts", "3", "-m", "streammeta")
    ]
    assert container["args"][0] == "train"
    assert [one["STREAMMETA_KAFKA__SASL_USERNAME"] for one in env] == ["streammeta", "fraud-trainer"]
    assert secrets == [{"streammeta", "kafka-cluster-ca-cert"}, {"fraud-trainer", "kafka-cluster-ca-cert"}]
    assert "STREAMMETA_KAFKA__GROUP_INSTANCE_ID" not in env[1]
    assert ours[0]["app.kubernetes.io/name"] != ours[1]["app.kubernetes.io/name"]
    for selector in (monitor["spec"]["selector"], policy["spec"]["podSelector"]):
        assert selector["matchExpressions"][0]["values"] == [one["app.kubernetes.io/name"] for one in ours]


def test_a_trainer_of_one_process_takes_the_members_image(rendered, tmp_path: Path) -> None:
    """On a CPU it needs no PyTorch, so one image serves and trains."""
    values = tmp_path / "values.yaml"
    values.write_text("trainer: {enabled: true, env: [{name: STREAMMETA_META__TASKS, value: '16'}]}")

    members, trainer = pods(rendered(values))

    assert members["containers"][0]["image"] == trainer["containers"][0]["image"]
    assert "command" not in trainer["containers"][0]
    assert variables(trainer)["STREAMMETA_META__TASKS"] == "16"
    assert "STREAMMETA_META__TASKS" not in variables(members)


def test_the_trainers_user_may_write_weights_and_read_episodes_and_nothing_else(rendered) -> None:
    """As tests/broker/test_security.py lets a trainer do on a real broker."""
    users = {one["metadata"]["name"]: one for one in objects(rendered(CHART / "ci/8-trainer.yaml"), "KafkaUser")}
    rights = users["fraud-trainer"]["spec"]["authorization"]["acls"]

    assert {(r["resource"]["type"], r["resource"]["name"]): set(r["operations"]) for r in rights} == {
        ("topic", "events"): {"Describe"},
        ("topic", "fraud-weights"): {"Read", "Write", "Create", "Describe", "DescribeConfigs"},
        ("topic", "fraud-episodes"): {"Read", "Create", "Describe"},
        ("transactionalId", "fraud/trainer"): {"Write", "Describe"},
    }
    assert {r["resource"]["patternType"] for r in rights} == {"literal"}


def test_members_are_static_and_startup_waits_longer_than_liveness(rendered) -> None:
    pod = objects(rendered(VALUES[0]), "StatefulSet")[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (name,) = [one for one in container["env"] if one["name"] == "STREAMMETA_KAFKA__GROUP_INSTANCE_ID"]
    startup, live = container["startupProbe"], container["livenessProbe"]

    assert name["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300
    assert startup["periodSeconds"] * startup["failureThreshold"] > live["periodSeconds"] * live["failureThreshold"]


def test_with_a_certificate_probes_and_prometheus_use_it_and_only_prometheus_brings_the_token(rendered) -> None:
    """A probe that speaks plain text would restart every pod for ever."""
    things = rendered(CHART / "ci/5-monitored-and-scaled.yaml")
    (container,) = objects(things, "StatefulSet")[0]["spec"]["template"]["spec"]["containers"]
    ((endpoint,),) = [one["spec"]["podMetricsEndpoints"] for one in objects(things, "PodMonitor")]

    assert {container[f"{name}Probe"]["httpGet"]["scheme"] for name in ("startup", "liveness", "readiness")} == {
        "HTTPS"
    }
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"]["serverName"] == "streammeta"
    credentials = {"name": "streammeta-metrics", "key": "token"}
    assert endpoint["authorization"] == {"type": "Bearer", "credentials": credentials}


def test_the_rules_in_the_cluster_are_those_that_promtool_tests(rendered) -> None:
    values = CHART / "ci/5-monitored-and-scaled.yaml"
    (rule,) = objects(rendered(values), "PrometheusRule")
    tested = yaml.safe_load((ROOT / "deploy/prometheus/streammeta.rules.yaml").read_text())

    base = "https://example.com/streammeta/"
    for group in tested["groups"]:
        for one in group["rules"]:
            if "alert" in one:
                one["annotations"]["runbook_url"] = base + one["annotations"]["runbook_url"]
    assert rule["spec"] == tested


def test_the_dashboards_in_the_cluster_are_the_files(rendered) -> None:
    values = CHART / "ci/5-monitored-and-scaled.yaml"
    (found,) = [one for one in objects(rendered(values), "ConfigMap") if one["metadata"]["name"].endswith("dashboards")]
    files = {path.name: json.loads(path.read_text()) for path in (ROOT / "deploy/grafana/dashboards").glob("*.json")}

    assert {name: json.loads(text) for name, text in found["data"].items()} == files


def test_the_scaler_never_goes_to_zero_nor_over_the_partitions_and_counts_by_member(rendered) -> None:
    """Commit markers leave a lag for ever; more members than partitions are idle; a mean would not add up."""
    (scaled,) = objects(rendered(CHART / "ci/5-monitored-and-scaled.yaml"), "ScaledObject")
    things = rendered(CHART / "ci/6-strimzi.yaml")
    (partitioned,), (topic,) = objects(things, "ScaledObject"), objects(things, "KafkaTopic")

    assert scaled["spec"]["minReplicaCount"] >= 1
    assert "idleReplicaCount" not in scaled["spec"]
    assert {one["type"] for one in scaled["spec"]["triggers"]} == {"kafka", "prometheus"}
    assert {one["metricType"] for one in scaled["spec"]["triggers"]} == {"AverageValue"}
    assert partitioned["spec"]["maxReplicaCount"] <= topic["spec"]["partitions"]
    for values in VALUES:
        sets = objects(rendered(values), "StatefulSet")
        scaled_too = objects(rendered(values), "ScaledObject")
        assert ("replicas" in sets[0]["spec"]) != bool(scaled_too), "helm and the scaler would fight over replicas"


def test_strimzi_objects_have_the_fields_that_its_documentation_asks_for(rendered) -> None:
    """No package has these schemas, so only this is held: the label that binds them, and rights by whole names."""
    things = rendered(CHART / "ci/6-strimzi.yaml")
    (topic,), (user,) = objects(things, "KafkaTopic"), objects(things, "KafkaUser")
    rights = user["spec"]["authorization"]["acls"]

    assert topic["metadata"]["labels"]["strimzi.io/cluster"] == user["metadata"]["labels"]["strimzi.io/cluster"]
    assert {one["resource"]["type"] for one in rights} == {"topic", "group", "transactionalId"}
    for one in rights:
        resource = one["resource"]
        assert resource["patternType"] == "literal" or resource["name"].endswith(("-", "/")), (
            "another application begins so"
        )
        assert "All" not in one["operations"]
    groups = {
        (one["resource"]["name"], one["resource"]["patternType"])
        for one in rights
        if one["resource"]["type"] == "group"
    }
    name = next(name for name, kind in groups if kind == "literal" and not name.endswith("-repartition"))
    assert groups == {(name, "literal"), (f"{name}-repartition", "literal"), (f"{name}-repartition/", "prefix")}
    read = {one["resource"]["name"] for one in rights if one["operations"] == ["Read", "Describe"]}
    assert {topic["spec"]["topicName"], "returns"} < read, "[labels] topic is read, too"


# -- each broken once: a check that never fails checks nothing ---------------------------------------------------------

BROKEN_VALUES = {
    "a value that is not known": "replica: 3",
    "no member": "replicas: 0",
    "a broker without a port": "kafka: {bootstrapServers: kafka}",
    "a mechanism that is not known": "kafka: {bootstrapServers: 'kafka:9092', saslMechanism: GSSAPI}",
    "scaling to zero": "autoscaling: {enabled: true, minReplicas: 0}",
    "more at least than at most": "autoscaling: {enabled: true, minReplicas: 5, maxReplicas: 2}",
    "a password among the settings": "config: |\n  [kafka]\n  sasl_password = 'x'",
    "a trainer twice": "trainer: {enabled: true, replicas: 2}",
    "a trainer without a process": "trainer: {enabled: true, processes: 0}",
    "a digest that is none": "image: {repository: streammeta, digest: 'sha256:12'}",
}


@pytest.mark.parametrize("text", BROKEN_VALUES.values(), ids=BROKEN_VALUES.keys())
def test_wrong_values_are_refused(text: str, rendered, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(text)

    with pytest.raises(AssertionError, match="Error"):
        rendered(tmp_path / "values.yaml")


BROKEN_TEMPLATES = {
    "statefulset.yaml": ("podManagementPolicy:", "podManagement:"),
    "_helpers.tpl": ("readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true"),
    "trainer.yaml": ("strategy: {type: Recreate}", "strategy: {kind: Recreate}"),
    "poddisruptionbudget.yaml": ("maxUnavailable:", "maxUnavailible:"),
    "networkpolicy.yaml": ("podSelector:", "podSelectors:"),
    "service.yaml": ("clusterIP: None", "clusterIP: [None]"),
    "monitoring.yaml": ("podMetricsEndpoints:", "endpoints:"),
    "scaledobject.yaml": ("pollingInterval: {{", "pollInterval: {{"),
}


@pytest.mark.parametrize("name", BROKEN_TEMPLATES)
def test_a_broken_template_fails_the_check(name: str, rendered, tmp_path: Path) -> None:
    chart = tmp_path / "streammeta"
    shutil.copytree(CHART, chart)
    right, wrong = BROKEN_TEMPLATES[name]
    template = chart / "templates" / name
    assert right in template.read_text()
    template.write_text(template.read_text().replace(right, wrong))

    things = (one for values in VALUES for one in rendered(values, chart=chart))

    with pytest.raises(Exception, match=r"(?i)validation|has no|required|additional|unexpected|invalid"):
        list(map(validate, things))
