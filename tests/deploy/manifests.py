"""Renders every overlay, validates each object against its schema in strict mode, and checks the policy. Planted faults show that the
policy notices: each takes one thing away and must fail."""

import copy
import subprocess
import sys
import tempfile
from pathlib import Path

import kubernetes_validate

import policy
from checks import Checks
from render import KUBERNETES, OVERLAYS, find, render, renderer

VERSIONS = ("1.29", "1.33")
# Kinds of others, without a schema here.
FOREIGN = {"ServiceMonitor"}


def main():
    scratch = Path(sys.argv[1])
    command = renderer(scratch)
    if command is None:
        print("skipped: neither kubectl nor kustomize is here, nor Go to build it")
        return
    checks = Checks()
    for overlay in OVERLAYS:
        objects = render(command, KUBERNETES / "overlays" / overlay)
        schemas(objects, overlay, checks)
        policy.check(objects, overlay, checks)
    faults(render(command, KUBERNETES / "overlays" / "production"), checks)
    image_is_a_parameter(command, scratch, checks)
    checks.end()


def schemas(objects, overlay, checks):
    checks.that(f"{overlay}: something is rendered", len(objects) > 8)
    for document in objects:
        name = f"{overlay}: {document['kind']}/{document['metadata']['name']}"
        if document["kind"] in FOREIGN:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
                checks.that(f"{name} is valid in {version}", True)
            except Exception as error:  # each schema fault has its own type
                checks.that(f"{name} is valid in {version}: {error}", False)
    # The schema check itself must notice.
    broken = copy.deepcopy(find(objects, "StatefulSet", "warren"))
    broken["spec"]["replica"] = 3
    try:
        kubernetes_validate.validate(broken, VERSIONS[0], strict=True)
        checks.that(f"{overlay}: a misspelt field is noticed", False)
    except kubernetes_validate.ValidationError:
        checks.that(f"{overlay}: a misspelt field is noticed", True)


def faults(objects, checks):
    def node(it):
        return policy.node_of(it)

    def pod(it):
        return policy.pod_of(it)

    def drop(holder, key):
        del holder[key]

    planted = {
        "PDB": lambda it: drop(find(it, "PodDisruptionBudget", "warren")["spec"], "unhealthyPodEvictionPolicy"),
        "root": lambda it: pod(it)["securityContext"].update(runAsUser=0),
        "writable root": lambda it: node(it)["securityContext"].update(readOnlyRootFilesystem=False),
        "capability": lambda it: node(it)["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
        "quorum in liveness": lambda it: node(it)["livenessProbe"]["httpGet"].update(path="/readyz"),
        "ordered start": lambda it: find(it, "StatefulSet", "warren")["spec"].update(podManagementPolicy="OrderedReady"),
        "hidden names": lambda it: find(it, "Service", "warren-nodes")["spec"].update(publishNotReadyAddresses=False),
        "memory beyond its request": lambda it: node(it)["resources"]["limits"].update(memory="8Gi"),
        "token": lambda it: pod(it).update(automountServiceAccountToken=True),
        "short grace": lambda it: pod(it).update(terminationGracePeriodSeconds=30),
        "two on a host": lambda it: pod(it)["affinity"]["podAntiAffinity"].update(requiredDuringSchedulingIgnoredDuringExecution=[]),
        "open node port": lambda it: find(it, "NetworkPolicy", "warren-nodes")["spec"]["ingress"][0].pop("from"),
        "lost volume": lambda it: find(it, "StatefulSet", "warren")["spec"]["persistentVolumeClaimRetentionPolicy"].update(whenScaled="Delete"),
    }
    for fault, plant in planted.items():
        broken = copy.deepcopy(objects)
        plant(broken)
        noticed = Checks()
        try:
            policy.check(broken, "production", noticed)
        except (KeyError, IndexError, SystemExit):
            noticed.failed.append(fault)
        checks.that(f"planted fault is noticed: {fault}", bool(noticed.failed))


def image_is_a_parameter(command, scratch, checks):
    """An overlay of a user's own, in another directory, names another image."""
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        target = Path(directory) / "site"
        subprocess.run(["cp", "-R", str(KUBERNETES), str(target)], check=True)
        own = target / "overlays" / "own"
        own.mkdir()
        (own / "kustomization.yaml").write_text(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../production]\n"
            "images:\n  - name: warren\n    newName: registry.example/team/warren\n    newTag: 9.9.9\n"
        )
        objects = render(command, own)
        images = {it["image"] for owner in find(objects, "StatefulSet") for it in owner["spec"]["template"]["spec"]["containers"]}
        checks.that("the image is a parameter", images == {"registry.example/team/warren:9.9.9"})


if __name__ == "__main__":
    main()
