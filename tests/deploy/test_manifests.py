"""The Kubernetes base: its manifests, its settings files, and the check that guards them."""

from __future__ import annotations

import copy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from checks import manifests
from cloud_escalator.config import EscalatorSettings
from edge_node.config import EdgeSettings
from foundation.certificates import TlsSettings
from foundation.settings import load_settings

PROCESS_BYTES = 220 << 20
"""Of an escalator with the reference bundle under load, as docs/reliability.md has it."""
SENT_AHEAD_BYTES = 2 << 20
"""Of one stream, what flow control may let its client send ahead."""


@pytest.fixture
def deployment() -> dict[str, Any]:
    """The escalator's Deployment."""
    return manifests.load(manifests.BASE / "escalator-deployment.yaml")[0]


@pytest.fixture
def daemon_set() -> dict[str, Any]:
    """The edge node's DaemonSet."""
    return manifests.load(manifests.BASE / "edge-daemonset.yaml")[0]


def assert_files_are_mounted(tls: TlsSettings, pod: dict[str, Any], secret: str) -> None:
    """The files of TLS lie where the pod mounts that Secret, which only its group can read."""
    (volume,) = [one for one in pod["volumes"] if "secret" in one]
    assert volume["secret"] == {"secretName": secret, "defaultMode": 0o440}
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    (mount,) = [
        one for one in pod["containers"][0]["volumeMounts"] if one["name"] == volume["name"]
    ]
    folder = Path(mount["mountPath"])
    assert (tls.ca, tls.certificate, tls.key) == tuple(
        str(folder / name) for name in ("ca.crt", "tls.crt", "tls.key")
    )


def test_base_passes_its_check(capsys: pytest.CaptureFixture[str]) -> None:
    """The manifests fit the schemas and each other."""
    status = manifests.main()
    assert status == 0, capsys.readouterr().out


def test_misspelt_key_is_found(deployment: dict[str, Any]) -> None:
    """A key that Kubernetes would silently ignore is a finding."""
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["readynessProbe"] = container.pop("readinessProbe")
    assert any("readynessProbe" in finding for finding in manifests.schema_findings(deployment))


def test_ill_typed_value_is_found(deployment: dict[str, Any]) -> None:
    """A value of the wrong type is a finding that says where."""
    deployment["spec"]["replicas"] = "two"
    assert any(
        finding.startswith("spec.replicas") for finding in manifests.schema_findings(deployment)
    )


def test_missing_config_map_is_found(deployment: dict[str, Any]) -> None:
    """A volume of a ConfigMap that nothing makes is a finding."""
    kustomization = manifests.load(manifests.BASE / "kustomization.yaml")[0]
    deployment["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] = "elsewhere"
    findings = list(manifests.reference_findings(kustomization, [deployment]))
    assert "escalator: no ConfigMap elsewhere" in findings


def test_missing_resource_is_found() -> None:
    """A resource that is named and no file is a finding, and so is a file that nobody names."""
    kustomization = manifests.load(manifests.BASE / "kustomization.yaml")[0]
    changed = copy.deepcopy(kustomization)
    changed["resources"][0] = "gone.yaml"
    assert set(manifests.kustomization_findings(changed)) == {
        "gone.yaml is no file",
        "namespace.yaml is not among the resources",
    }


def test_escalator_settings_are_valid(deployment: dict[str, Any]) -> None:
    """The escalator accepts its ConfigMap, listens where it is probed, and can drain in time."""
    settings = load_settings(manifests.BASE / "settings" / "escalator.yaml", EscalatorSettings)
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert settings.listen == f"0.0.0.0:{ports['grpc']}"
    assert settings.telemetry_listen == f"0.0.0.0:{ports['telemetry']}"
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/readyz", "port": "telemetry"}
    assert_files_are_mounted(settings.tls, pod, "escalator-tls")
    pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > settings.drain_s + pause_s


def test_escalator_fits_its_memory(deployment: dict[str, Any]) -> None:
    """What clients can make a pod hold, with the process itself, leaves room in its limit."""
    settings = load_settings(manifests.BASE / "settings" / "escalator.yaml", EscalatorSettings)
    limits, crops = settings.limits, 2 * settings.batch.size_max + settings.decode.threads
    bound = (
        limits.streams_max * limits.message_bytes_max
        + limits.queue_bytes_max
        + crops * limits.image_pixels_max * 3
    )
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    text = container["resources"]["limits"]["memory"]
    memory = int(text.removesuffix("Mi")) << 20
    ahead = limits.streams_max * SENT_AHEAD_BYTES
    assert bound + PROCESS_BYTES + ahead <= memory
    assert limits.device_streams_max <= limits.streams_max


def test_edge_settings_are_valid(
    daemon_set: dict[str, Any], tmp_path: Path, repository: Path
) -> None:
    """The edge node accepts its ConfigMap, whose only variable its pod sets."""
    text = (manifests.BASE / "settings" / "edge.yaml").read_text("utf-8")
    pod = daemon_set["spec"]["template"]["spec"]
    (variable,) = pod["containers"][0]["env"]
    filled = tmp_path / "edge.yaml"
    filled.write_text(text.replace(f"${{{variable['name']}}}", "machine-1"), "utf-8")
    settings = load_settings(filled, EdgeSettings)
    (port,) = pod["containers"][0]["ports"]
    assert settings.camera == "machine-1"
    assert settings.telemetry.port == port["containerPort"]
    assert pod["terminationGracePeriodSeconds"] > settings.drain_s
    mounts = [Path(mount["mountPath"]) for mount in pod["containers"][0]["volumeMounts"]]
    assert Path(settings.results.path).parent in mounts
    assert_files_are_mounted(settings.escalator.tls, pod, "edge-tls")
    service = manifests.load(manifests.BASE / "escalator-service.yaml")[0]
    host, _, grpc_port = settings.escalator.address.rpartition(":")
    assert host == f"{service['metadata']['name']}.hardcase.svc"
    assert int(grpc_port) == service["spec"]["ports"][0]["port"]


@pytest.mark.parametrize("name", ["escalator-deployment.yaml", "edge-daemonset.yaml"])
def test_containers_have_no_privileges(name: str) -> None:
    """No container runs as root, gains rights, keeps capabilities or writes to its image."""
    pod = manifests.load(manifests.BASE / name)[0]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]


def test_kubectl_builds_the_base() -> None:
    """Where kubectl is installed, it renders the base and agrees on what is in it."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    built = subprocess.run(
        [kubectl, "kustomize", str(manifests.BASE)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert built.returncode == 0, built.stderr
    documents = list(yaml.safe_load_all(built.stdout))
    assert {document["kind"] for document in documents} == {
        "ConfigMap",
        "DaemonSet",
        "Deployment",
        "Namespace",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    }
    assert not [
        finding for document in documents for finding in manifests.schema_findings(document)
    ]
