"""The Prometheus scrape configurations agree with Prometheus and with what is deployed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from checks import manifests
from edge_node.config import TelemetrySettings
from tests.support.alerts import rules


def test_promtool_accepts_the_configuration(repository: Path) -> None:
    """Prometheus's own checker finds nothing wrong."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (package prometheus)")
    checked = subprocess.run(
        [promtool, "check", "config", str(repository / "deploy/prometheus/prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stderr


def test_scrapes_where_the_services_listen(repository: Path) -> None:
    """The targets on one machine are the services' default addresses."""
    configuration = yaml.safe_load(
        (repository / "deploy/prometheus/prometheus.yml").read_text("utf-8")
    )
    targets = {
        job["job_name"]: job["static_configs"][0]["targets"]
        for job in configuration["scrape_configs"]
    }
    edge = TelemetrySettings()
    assert targets == {"edge": [f"{edge.host}:{edge.port}"], "escalator": ["127.0.0.1:9102"]}


def test_jobs_are_those_that_alerts_name(repository: Path) -> None:
    """On one machine and on Kubernetes, where the pod's label gives the job its name."""
    folder = repository / "deploy/prometheus"
    jobs = {
        job["job_name"]
        for job in yaml.safe_load((folder / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    }
    labels = {
        manifests.load(manifests.BASE / name)[0]["spec"]["template"]["metadata"]["labels"][
            "app.kubernetes.io/name"
        ]
        for name in ("escalator-deployment.yaml", "edge-daemonset.yaml")
    }
    named = {
        name
        for rule in rules(repository).values()
        for alternatives in re.findall(r'job=~"([^"]*)"', rule["expr"])
        for name in alternatives.split("|")
    }
    assert jobs == labels == named


def test_kubernetes_pods_ask_to_be_scraped(repository: Path) -> None:
    """Both pods carry the annotation and the port name that the cluster configuration looks for."""
    configuration = yaml.safe_load(
        (repository / "deploy/prometheus/kubernetes.yml").read_text("utf-8")
    )
    (job,) = configuration["scrape_configs"]
    kept = [rule["regex"] for rule in job["relabel_configs"] if rule.get("action") == "keep"]
    assert kept == ["true", "telemetry"]
    # A pod that has ended is not one that is down.
    dropped = [rule["regex"] for rule in job["relabel_configs"] if rule.get("action") == "drop"]
    assert dropped == ["Succeeded|Failed"]
    for name in ("escalator-deployment.yaml", "edge-daemonset.yaml"):
        pod = manifests.load(manifests.BASE / name)[0]["spec"]["template"]
        annotations = pod["metadata"]["annotations"]
        ports = {
            port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]
        }
        assert annotations["prometheus.io/scrape"] == "true"
        assert annotations["prometheus.io/port"] == str(ports["telemetry"])
