"""Renders an overlay with whatever kustomize there is. Not here: what is checked."""

import os
import shutil
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("development", "production")
KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.5.0"


def renderer(scratch):
    """The command that renders a directory, or None: there is none and none can be built."""
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    found = shutil.which("kustomize")
    if found:
        return [found, "build"]
    built = Path(scratch) / "bin" / "kustomize"
    if not built.exists() and shutil.which("go"):
        environment = dict(os.environ, GOBIN=str(built.parent))
        subprocess.run(["go", "install", KUSTOMIZE], env=environment, check=False)
    return [str(built), "build"] if built.exists() else None


def render(command, directory):
    """Every object of a directory."""
    done = subprocess.run([*command, str(directory)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{directory} does not render:\n{done.stderr}")
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def find(objects, kind, name=None):
    """All objects of a kind, or the one of this name."""
    found = [it for it in objects if it["kind"] == kind]
    if name is None:
        return found
    named = [it for it in found if it["metadata"]["name"] == name]
    if len(named) != 1:
        raise SystemExit(f"{len(named)} objects {kind}/{name}")
    return named[0]
