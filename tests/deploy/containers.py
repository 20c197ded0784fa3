"""Checks what can be read from the Dockerfile and the compose file; neither is built or run here."""

import json
import re
import tomllib

import yaml

from checks import Checks
from render import ROOT


def main():
    checks = Checks()
    image = dockerfile(checks)
    compose(checks, image)
    checks.end()


def instructions(text):
    """Each instruction with its arguments, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def dockerfile(checks):
    found = instructions((ROOT / "deploy/docker/Dockerfile").read_text())
    stages = [index for index, (name, _) in enumerate(found) if name == "FROM"]
    checks.that("image: more than one stage", len(stages) >= 2)
    last = found[stages[-1] :]

    def only(name):
        values = [arguments for it, arguments in last if it == name]
        return values[0] if len(values) == 1 else None

    user = re.fullmatch(r"(\d+):(\d+)", only("USER") or "")
    checks.that("image: user and group of at least 10000, by number", bool(user) and all(int(it) >= 10000 for it in user.groups()))
    checks.that("image: nothing is run in the last stage: it may have no shell", not any(name == "RUN" for name, _ in last))
    checks.that("image: small base without a shell", lambda: "distroless" in next(a for n, a in found if n == "ARG" and a.startswith("RUNTIME_IMAGE")))
    health = (only("HEALTHCHECK") or "").split("CMD", 1)[-1].strip()
    checks.that("image: health is asked with warren health", lambda: json.loads(health)[:2] == ["/usr/local/bin/warren", "health"])
    checks.that("image: starts the binary itself, so that it gets signals", lambda: json.loads(only("ENTRYPOINT")) == ["/usr/local/bin/warren"])
    checks.that("image: ends by SIGTERM", only("STOPSIGNAL") == "SIGTERM")
    copies = [arguments for name, arguments in last if name == "COPY"]
    checks.that("image: only what was built is in it", copies and all("--from=build" in it for it in copies))
    built = " ".join(arguments for name, arguments in found if name == "RUN")
    checks.that("image: built from the lock file", "--locked --release" in built)
    checks.that("image: Rust is the one of rust-toolchain.toml", toolchain() in next(a for n, a in found if n == "ARG" and a.startswith("RUST_IMAGE")))
    return {"user": only("USER"), "data": json.loads(only("VOLUME"))[0]}


def toolchain():
    text = (ROOT / "rust-toolchain.toml").read_text()
    return ".".join(re.search(r'channel = "([\d.]+)"', text).group(1).split(".")[:2])


def secret_files():
    config = tomllib.loads((ROOT / "deploy/compose/warren.toml").read_text())
    return {config["cluster"]["secret_file"], config["auth"]["first_password_file"]}


def compose(checks, image):
    document = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())
    services = document["services"]
    checks.that("compose: three nodes", sorted(services) == ["warren-0", "warren-1", "warren-2"])
    published, volumes = [], []
    for name, it in services.items():
        checks.that(f"compose: {name}: the image's user", it["user"] == image["user"])
        checks.that(f"compose: {name}: read-only root", it["read_only"] is True)
        checks.that(f"compose: {name}: no capability", it["cap_drop"] == ["ALL"])
        checks.that(f"compose: {name}: no more privileges", "no-new-privileges:true" in it["security_opt"])
        checks.that(f"compose: {name}: health by warren health", it["healthcheck"]["test"][1:3] == ["/usr/local/bin/warren", "health"])
        checks.that(f"compose: {name}: 60 s to end", it["stop_grace_period"] == "60s")
        checks.that(f"compose: {name}: a memory limit", bool(it["mem_limit"]))
        checks.that(f"compose: {name}: its number from its name", it["hostname"] == name and it["environment"]["WARREN_NODE_ID"] == "from-hostname")
        told = {it["environment"][f"WARREN_ADVERTISE_{what}"].split(":")[0] for what in ("NODE", "GRPC", "AMQP")}
        checks.that(f"compose: {name}: told by its name", told == {name})
        checks.that(f"compose: {name}: reached from this machine only", all(port.startswith("127.0.0.1:") for port in it["ports"]))
        mounted = {secret["target"] for secret in it["secrets"]}
        checks.that(f"compose: {name}: the files of secrets that its configuration names", mounted == secret_files())
        published += [port.rsplit(":", 1)[0] for port in it["ports"]]
        volumes += [volume.split(":")[0] for volume in it["volumes"]]
        checks.that(f"compose: {name}: data where the image keeps it", it["volumes"][0].split(":")[1] == image["data"])
    checks.that("compose: no port twice", len(set(published)) == len(published) == 9)
    checks.that("compose: a volume for each", sorted(volumes) == sorted(document["volumes"]))


if __name__ == "__main__":
    main()
