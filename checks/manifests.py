"""Check the Kubernetes manifests against the schemas of the Kubernetes versions they are for.

Invariants held beside the schemas: every manifest in the folder is named by the kustomization and
every name in it is a file; every ConfigMap and ServiceAccount that a pod refers to exists; every
selector selects the pods it is meant for. No cluster, no kubectl and no network is needed.
"""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "deploy" / "k8s"
VERSIONS = ("1.32", "1.37")

Manifest = dict[str, Any]


def load(path: Path) -> list[Manifest]:
    """Return the documents of one manifest file."""
    return [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document]


def schema_findings(manifest: Manifest) -> Iterator[str]:
    """Yield what the schemas of the oldest and the newest version dislike in `manifest`."""
    for version in VERSIONS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(step) for step in error.path)
            yield f"{where or '(top)'}: {error.message} (Kubernetes {version})"
        except (
            kubernetes_validate.SchemaNotFoundError,
            kubernetes_validate.InvalidSchemaError,
        ) as error:
            yield f"{error} (Kubernetes {version})"


def kustomization_findings(kustomization: Manifest) -> Iterator[str]:
    """Yield names that are no file, and files that have no name."""
    named = set(kustomization["resources"])
    present = {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    yield from (f"{name} is no file" for name in sorted(named - present))
    yield from (f"{name} is not among the resources" for name in sorted(present - named))
    for generator in kustomization["configMapGenerator"]:
        for entry in generator["files"]:
            source = entry.partition("=")[2] or entry
            if not (BASE / source).is_file():
                yield f"{source} of ConfigMap {generator['name']} is no file"


def reference_findings(kustomization: Manifest, manifests: list[Manifest]) -> Iterator[str]:
    """Yield references from one manifest to another that lead nowhere."""
    config_maps = {generator["name"] for generator in kustomization["configMapGenerator"]}
    images = {image["name"] for image in kustomization["images"]}
    by_kind: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        by_kind.setdefault(manifest["kind"], []).append(manifest)
    accounts = {manifest["metadata"]["name"] for manifest in by_kind.get("ServiceAccount", [])}
    pods = {
        manifest["metadata"]["name"]: manifest["spec"]["template"]
        for kind in ("Deployment", "DaemonSet")
        for manifest in by_kind.get(kind, [])
    }
    for name, pod in pods.items():
        if pod["spec"]["serviceAccountName"] not in accounts:
            yield f"{name}: no ServiceAccount {pod['spec']['serviceAccountName']}"
        for volume in pod["spec"]["volumes"]:
            if "configMap" in volume and volume["configMap"]["name"] not in config_maps:
                yield f"{name}: no ConfigMap {volume['configMap']['name']}"
        for container in pod["spec"]["containers"]:
            if container["image"] not in images:
                yield f"{name}: image {container['image']} has no tag in the kustomization"
    all_labels = [pod["metadata"]["labels"].items() for pod in pods.values()]
    for manifest in manifests:
        for selector in selectors(manifest):
            if not any(selector.items() <= labels for labels in all_labels):
                yield f"{manifest['kind']} {manifest['metadata']['name']} selects no pod"


def selectors(manifest: Manifest) -> Iterator[dict[str, str]]:
    """Yield the label selectors for pods in `manifest`."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Service":
        yield spec["selector"]
    elif "selector" in spec:
        yield spec["selector"]["matchLabels"]
    elif manifest["kind"] == "NetworkPolicy":
        yield spec["podSelector"]["matchLabels"]
        for rule in spec["ingress"]:
            for peer in rule["from"]:
                if "podSelector" in peer:
                    yield peer["podSelector"]["matchLabels"]


def main() -> int:
    """Check the base."""
    kustomization = load(BASE / "kustomization.yaml")[0]
    findings = [f"kustomization: {finding}" for finding in kustomization_findings(kustomization)]
    manifests = []
    for path in sorted(BASE.glob("*.yaml")):
        if path.name == "kustomization.yaml":
            continue
        for manifest in load(path):
            manifests.append(manifest)
            findings += [f"{path.name}: {finding}" for finding in schema_findings(manifest)]
    findings += list(reference_findings(kustomization, manifests))
    print("\n".join(findings) or f"{len(manifests)} manifests fit Kubernetes {VERSIONS}.")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
