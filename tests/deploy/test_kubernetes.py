"""deploy/kubernetes, which cannot be applied where the tests run: its form, and everything that it names."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from shared.database import Database
from shared.figures import ROLES
from shared.settings import ROOT, Settings
from tests.exposed import exposed

FOLDER = ROOT / "deploy/kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
OF_OTHERS = {"ScaledObject", "Kustomization"}  # kinds that Kubernetes itself does not know


def documents(file: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(file.read_text(encoding="utf-8")) if one]


ALL = [one for file in FILES for one in documents(file)]
KUSTOMIZATION = documents(FOLDER / "kustomization.yaml")[0]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in ALL if one["kind"] == kind}


PODS = {
    name: one["spec"]["template"] for kind in ("Deployment", "Job") for name, one in of_kind(kind).items()
}
CONTAINERS = [(name, one) for name, pod in PODS.items() for one in pod["spec"]["containers"]]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_is_what_kubernetes_expects(file: Path) -> None:
    for document in documents(file):
        if document["kind"] not in OF_OTHERS:
            kubernetes_validate.validate(document, "1.30", strict=True)


def test_every_file_is_applied_but_the_example() -> None:
    assert {file.name for file in FILES} - {"kustomization.yaml", "secret.example.yaml"} == set(
        KUSTOMIZATION["resources"]
    )


def test_the_settings_are_accepted_as_they_stand() -> None:
    secret = documents(FOLDER / "secret.example.yaml")[0]["stringData"]
    settings = Settings.from_env(of_kind("ConfigMap")["medq"]["data"] | secret)
    own = {one["name"]: one.get("value") for _, container in CONTAINERS for one in container.get("env", [])}
    assert Settings.from_env({"MEDQ_HOSTS": own["MEDQ_HOSTS"]}).allowed_hosts >= {
        "medq-api",
        "127.0.0.1",
        "$(pod_ip)",
    }
    assert settings.auth == "keys"
    flower = documents(FOLDER / "secret.example.yaml")[1]["stringData"]
    assert Settings.from_env(flower | {"MEDQ_FLOWER_HOST": own["MEDQ_FLOWER_HOST"]}).flower_only_shows
    longest = {name: pod["spec"].get("terminationGracePeriodSeconds", 30) for name, pod in PODS.items()}
    for role in ("vision", "answer", "archive"):
        assert longest[f"medq-{role}"] > settings.drain_s + 10, role


def test_images_are_named_by_the_kustomization_or_pinned() -> None:
    renamed = {image["name"] for image in KUSTOMIZATION["images"]}
    for _, container in CONTAINERS:
        image = container["image"]
        assert image in renamed or re.search(r":[\w.-]+$", image), image
    assert renamed == {
        container["image"] for _, container in CONTAINERS if container["image"].startswith("medq-")
    }


def test_each_role_has_its_deployment() -> None:
    args = {tuple(container["args"]) for _, container in CONTAINERS if "args" in container}
    assert args == {(role,) for role in ROLES}


@pytest.mark.parametrize("name", PODS)
def test_pods_run_without_root_and_without_a_token(name: str) -> None:
    spec = PODS[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        context = container["securityContext"]
        assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize(
    "name", [name for name, pod in PODS.items() if pod["metadata"]["labels"].get("medq")]
)
def test_no_variables_of_services_reach_ours(name: str) -> None:
    """A service `medq-api` would set MEDQ_API_PORT, which is no setting and would stop the start."""
    assert PODS[name]["spec"]["enableServiceLinks"] is False


def test_selectors_find_pods() -> None:
    labels = [pod["metadata"]["labels"] for pod in PODS.values()]
    wanted = [one["spec"]["selector"] for one in of_kind("Service").values()]
    wanted += [one["spec"]["selector"]["matchLabels"] for one in of_kind("PodDisruptionBudget").values()]
    for policy in of_kind("NetworkPolicy").values():
        wanted.append(policy["spec"]["podSelector"].get("matchLabels", {}))
    assert len(wanted) >= 7
    for selector in wanted:
        assert any(selector.items() <= own.items() for own in labels), selector


def test_the_ingress_leads_to_a_service_and_lets_the_largest_archive_in() -> None:
    (ingress,) = of_kind("Ingress").values()
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"]
    assert backend in of_kind("Service")
    size = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(size.removesuffix("g")) * 2**30 > Settings().max_archive_bytes


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_workers_are_scaled_by_metrics_that_exist(
    database: Database, settings: Callable[..., Settings]
) -> None:
    known = exposed(database, settings())
    scaled = of_kind("ScaledObject")
    assert scaled
    for one in scaled.values():
        assert one["apiVersion"] == "keda.sh/v1alpha1"
        target = of_kind("Deployment")[one["spec"]["scaleTargetRef"]["name"]]
        assert "replicas" not in target["spec"]  # else each `apply` would undo what KEDA has done
        assert 0 < one["spec"]["minReplicaCount"] <= one["spec"]["maxReplicaCount"]
        (trigger,) = one["spec"]["triggers"]
        assert set(re.findall(r"medq_\w+", trigger["metadata"]["query"])) <= known
        assert float(trigger["metadata"]["threshold"]) > 0


def test_as_many_messages_of_archives_are_under_way_as_keep_all_vision_workers_busy() -> None:
    settings = Settings.from_env(of_kind("ConfigMap")["medq"]["data"] | {"OPENAI_API_KEY": ""})
    most = of_kind("ScaledObject")["medq-vision"]["spec"]["maxReplicaCount"]
    assert settings.bulk_window >= most * Settings().bulk_window


def test_prometheus_finds_the_apis_pods() -> None:
    """Debian's promtool was built without Kubernetes, and cannot look itself."""
    (job,) = yaml.safe_load((ROOT / "deploy/monitoring/kubernetes.yml").read_text())["scrape_configs"]
    assert job["job_name"] == "medq"  # which the alert MedqDown asks for
    assert job["kubernetes_sd_configs"][0]["namespaces"]["names"] == [KUSTOMIZATION["namespace"]]
    assert job["relabel_configs"][0]["regex"] == PODS["medq-api"]["metadata"]["labels"]["app"]
