"""Plays the life of the pods of the development overlay with processes: each has a network, a host name and a read-only root of its
own, and runs with the command line, environment, files, user and probes that the rendered manifests hold. The names of the headless
service are a hosts file. Runs inside namespaces that run.sh has made; nothing of it reaches the machine. Not here: what a real kubelet
and a real network do."""

import base64
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from checks import Checks
from policy import node_of, pod_of
from render import KUBERNETES, find, render, renderer

BINARY = Path(os.environ["WARREN_BIN"])
BRIDGE = "10.77.0.1"
READY_WITHIN_S = 60


def sh(*command, **more):
    return subprocess.run([str(it) for it in command], check=True, **more)


def tool(name):
    """Where a tool of this machine is: the container's own PATH does not lead to it."""
    return shutil.which(name) or name


class Site:
    """What all pods share: the image, files from the manifests, names, and the bridge between them."""

    def __init__(self, objects, scratch):
        self.objects = objects
        self.scratch = scratch
        self.pod = pod_of(objects)
        self.node = node_of(objects)
        self.namespace = find(objects, "StatefulSet", "warren")["metadata"]["namespace"]
        self.ports = {it["name"]: it["containerPort"] for it in self.node["ports"]}
        self.user = self.pod["securityContext"]["runAsUser"]
        self.group = self.pod["securityContext"]["runAsGroup"]
        self.grace_s = self.pod["terminationGracePeriodSeconds"]
        self.next_address = 10
        self.names = {}
        sh("mount", "--make-rprivate", "/")
        sh("ip", "link", "set", "lo", "up")
        sh("ip", "link", "add", "pods", "type", "bridge")
        sh("ip", "address", "add", f"{BRIDGE}/24", "dev", "pods")
        sh("ip", "link", "set", "pods", "up")
        self.image = self.make_image()
        self.hosts = scratch / "hosts"
        self.write_hosts()
        self.config = scratch / "config"
        self.config.mkdir()
        for name, text in find(objects, "ConfigMap")[0]["data"].items():
            (self.config / name).write_text(text)
        self.secrets = {it: self.make_secret(it) for it in ("warren-cluster", "warren-first-user")}

    def make_secret(self, name):
        """A directory as a volume of that secret has it."""
        made = self.scratch / name
        made.mkdir()
        for key, text in secret_of(self.objects, name).items():
            path = made / key
            path.write_text(text)
            os.chown(path, 0, self.group)
            path.chmod(0o440)
        return made

    def make_image(self):
        """The binary and its libraries, as in the image."""
        root = self.scratch / "image"
        target = root / "usr/local/bin/warren"
        for directory in ("etc/warren", "run/secrets/warren", "run/secrets/warren-user", "var/lib/warren", "proc", "usr/local/bin"):
            (root / directory).mkdir(parents=True)
        shutil.copy2(BINARY, target)
        listed = subprocess.run(["ldd", str(BINARY)], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"(/\S+)", listed):
            (root / library.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(library, root / library.lstrip("/"))
        (root / "etc/hosts").write_text("")
        (root / "etc/nsswitch.conf").write_text("hosts: files\n")
        return root

    def write_hosts(self):
        lines = ["127.0.0.1 localhost"]
        for pod, address in sorted(self.names.items()):
            full = f"{pod}.warren-nodes.{self.namespace}.svc"
            lines.append(f"{address} {pod}.warren-nodes {full}")
        # The client service gives any node; a name that is there twice would do as well.
        lines += [f"{address} warren" for address in list(self.names.values())[:1]]
        # In place: the file is mounted into the pods.
        self.hosts.write_text("\n".join(lines) + "\n")

    def volume(self, index):
        path = self.scratch / f"volume-{index}"
        if not path.exists():
            path.mkdir()
            os.chown(path, 0, self.pod["securityContext"]["fsGroup"])
            path.chmod(0o2770)
        return path


def secret_of(objects, name):
    data = find(objects, "Secret", name)["data"]
    return {name: base64.b64decode(text).decode() for name, text in data.items()}


class Pod:
    """One pod: its namespaces live as long as it, its container may end before."""

    def __init__(self, site, name, volume=None):
        self.site = site
        self.name = name
        self.address = f"10.77.0.{site.next_address}"
        site.next_address += 1
        self.root = site.scratch / f"root-{self.address}"
        self.root.mkdir()
        self.log = site.scratch / f"log-{name}-{self.address}"
        self.pause = subprocess.Popen(["unshare", "--net", "--uts", "--mount", "--", "sleep", "86400"])
        own = os.readlink("/proc/self/ns/mnt")
        until("a pod has namespaces", lambda: os.readlink(f"/proc/{self.pause.pid}/ns/mnt") != own and comm(self.pause.pid) == "sleep")
        self.connect()
        self.mount(volume)
        self.main = None

    def connect(self):
        link = f"v{self.address.rsplit('.', 1)[1]}"
        sh("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", self.pause.pid)
        sh("ip", "link", "set", link, "master", "pods", "up")
        self.inside("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.inside("ip", "link", "set", "eth0", "up")
        self.inside("ip", "link", "set", "lo", "up")
        self.inside("hostname", self.name)

    def mount(self, volume):
        site, root = self.site, self.root
        steps = [
            ["mount", "--bind", site.image, root],
            ["mount", "-o", "remount,bind,ro", root],
            ["mount", "--bind", site.config, root / "etc/warren"],
            ["mount", "--bind", site.secrets["warren-cluster"], root / "run/secrets/warren"],
            ["mount", "--bind", site.secrets["warren-first-user"], root / "run/secrets/warren-user"],
            ["mount", "--bind", site.hosts, root / "etc/hosts"],
            ["mount", "-t", "proc", "proc", root / "proc"],
        ]
        if volume:
            steps.append(["mount", "--bind", volume, root / "var/lib/warren"])
        for step in steps:
            self.inside(*step)

    def enter(self, command):
        namespaces = [tool("nsenter"), "--target", str(self.pause.pid), "--net", "--mount", "--uts", "--"]
        user = f"{self.site.user}:{self.site.group}"
        return [*namespaces, tool("setpriv"), "--no-new-privs", tool("chroot"), f"--userspec={user}", "--groups=", str(self.root), *command]

    def inside(self, *command):
        sh("nsenter", "--target", self.pause.pid, "--net", "--mount", "--uts", "--", *command)

    def environment(self, container):
        fields = {"metadata.name": self.name, "metadata.namespace": self.site.namespace}
        found = {"PATH": "/usr/local/bin"}
        for it in container.get("env", []):
            value = it.get("value") or fields[it["valueFrom"]["fieldRef"]["fieldPath"]]
            found[it["name"]] = re.sub(r"\$\((\w+)\)", lambda match: found[match.group(1)], value)
        return found

    def start(self, container=None):
        """The container: what the image starts, with the manifest's arguments."""
        container = container or self.site.node
        command = ["/usr/local/bin/warren", *container["args"]]
        with self.log.open("ab") as log:
            self.main = subprocess.Popen(self.enter(command), env=self.environment(container), stdout=log, stderr=log)
        return self

    def publish_name(self):
        """publishNotReadyAddresses: at once."""
        self.site.names[self.name] = self.address
        self.site.write_hosts()

    def probe(self, name):
        """As a kubelet would ask: the status, or None."""
        asked = self.site.node[name]["httpGet"]
        url = f"http://{self.address}:{self.site.ports[asked['port']]}{asked['path']}"
        try:
            with urllib.request.urlopen(url, timeout=self.site.node[name]["timeoutSeconds"]) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def is_ready(self):
        return self.probe("readinessProbe") == 200

    def wait_ready(self):
        until(f"{self.name} is ready", lambda: self.alive() and self.is_ready(), READY_WITHIN_S, self)
        return self

    def alive(self):
        if self.main.poll() is not None:
            raise SystemExit(f"{self.name} ended by itself ({self.main.returncode}):\n{self.log_end()}")
        return True

    def pre_stop(self):
        command = self.site.node["lifecycle"]["preStop"]["exec"]["command"]
        return subprocess.run(self.enter(command), capture_output=True, text=True, timeout=self.site.grace_s, check=False)

    def delete(self):
        """preStop, SIGTERM, and the grace for both: the exit code, or None if it had to be killed."""
        began = time.monotonic()
        drained = self.pre_stop()
        self.main.send_signal(signal.SIGTERM)
        left = self.site.grace_s - (time.monotonic() - began)
        try:
            code = self.main.wait(timeout=max(left, 0.1))
        except subprocess.TimeoutExpired:
            code = None
        self.remove()
        return drained, code

    def remove(self):
        """Its container is killed if it runs; its address and name are gone."""
        if self.main and self.main.poll() is None:
            self.main.kill()
            self.main.wait()
        self.pause.kill()
        self.pause.wait()
        if self.site.names.get(self.name) == self.address:
            del self.site.names[self.name]
            self.site.write_hosts()

    def grpc(self):
        return f"{self.address}:{self.site.ports['grpc']}"

    def log_end(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])


def comm(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def until(what, holds, within_s=30, pod=None):
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {within_s} s: {what}\n{pod.log_end() if pod else ''}")
        time.sleep(0.05)


def name_of(index):
    return f"warren-{index}"


class Life:
    """The story, one chapter a method. Every message that is confirmed in it must come out at its end, once."""

    def __init__(self, site, checks, seed):
        self.site = site
        self.checks = checks
        self.random = random.Random(seed)
        self.pods = {}
        self.confirmed = []

    def client(self, *arguments, said=None):
        servers = ",".join(pod.grpc() for pod in self.pods.values())
        password = self.site.secrets["warren-first-user"] / "password"
        command = [str(BINARY), *arguments, "--server", servers, "--login", "admin", "--password-file", str(password)]
        return subprocess.run(command, input=said, capture_output=True, text=True, timeout=120, check=False)

    def publish(self, chapter, count=50):
        lines = [f"{chapter} {number}" for number in range(count)]
        done = self.client("publish", "--queue", "life", "--request-timeout", "60", said="\n".join(lines) + "\n")
        self.checks.that(f"{chapter}: publishing works: {done.stderr.strip()}", done.returncode == 0)
        if done.returncode == 0:
            self.confirmed += lines

    def start(self, index, volume=None):
        pod = Pod(self.site, name_of(index), volume or self.site.volume(index)).start()
        self.pods[index] = pod
        return pod

    def all_at_once_in_any_order(self):
        order = list(range(3))
        self.random.shuffle(order)
        print(f"start order {order}")
        for index in order[:2]:
            self.start(index).publish_name()
        first, last = self.pods[order[0]], order[2]
        until("the first pod is live", lambda: first.alive() and first.probe("livenessProbe") == 200, pod=first)
        until("its start-up ends without the others", lambda: first.probe("startupProbe") == 200, pod=first)
        self.checks.that("a node that waits for others is not ready", first.probe("readinessProbe") == 503)
        # The last one is there before its name is.
        late = self.start(last)
        until("the last pod is live", lambda: late.alive() and late.probe("livenessProbe") == 200, pod=late)
        late.publish_name()
        for pod in self.pods.values():
            pod.wait_ready()
        declared = self.client("queue", "declare", "life")
        self.checks.that(f"a queue is declared: {declared.stderr}", declared.returncode == 0)
        self.publish("formed")
        self.read_only_root()

    def read_only_root(self):
        pod = self.pods[0]
        flags = [line.split() for line in Path(f"/proc/{pod.pause.pid}/mounts").read_text().splitlines()]
        root = [it for it in flags if it[1] == str(pod.root)]
        self.checks.that("the root is read-only", bool(root) and root[-1][3].split(",")[0] == "ro")
        owner = Path(f"/proc/{container_pid(pod)}/status").read_text()
        self.checks.that("the process is not root", f"Uid:\t{self.site.user}\t" in owner)
        self.checks.that("the process can gain no privileges", "NoNewPrivs:\t1" in owner and "CapEff:\t0000000000000000" in owner)

    def smoke_test(self):
        job = find(self.site.objects, "Job", "warren-smoke-test")["spec"]["template"]["spec"]["containers"][0]
        pod = Pod(self.site, "smoke-test").start(job)
        code = pod.main.wait(timeout=120)
        said = pod.log_end()
        self.checks.that(f"the smoke test's job completes:\n{said}", code == 0 and '"lost"' in said)
        pod.remove()

    def rolling_restart(self):
        for index in (2, 1, 0):
            before = self.pods[index].address
            drained, code = self.pods.pop(index).delete()
            chapter = f"restart of {name_of(index)}"
            self.checks.that(f"{chapter}: preStop ends well: {drained.stderr}", drained.returncode == 0)
            self.checks.that(f"{chapter}: the drain gave all leaders away: {drained.stderr}", "leads 0 shards" in drained.stderr)
            self.checks.that(f"{chapter}: exit 0 within the grace", code == 0)
            self.publish(f"{chapter}, while it is away")
            pod = self.start(index)
            pod.publish_name()
            pod.wait_ready()
            self.checks.that(f"{chapter}: it came back under another address", pod.address != before)
            self.publish(f"{chapter}, back")

    def killed_pod_comes_back_elsewhere(self):
        self.pods.pop(1).remove()
        self.publish("pod killed")
        pod = self.start(1)
        pod.publish_name()
        pod.wait_ready()
        self.publish("killed pod back")

    def drain_goes_on_at_its_deadline(self):
        """With one node down each of the others is needed: preStop waits, says so, and goes on in time."""
        self.pods.pop(2).remove()
        began = time.monotonic()
        pod = self.pods[0]
        until("the loss is seen", lambda: '"down"' in self.client("cluster", "status", "--output", "json").stdout)
        drained = pod.pre_stop()
        took = time.monotonic() - began
        self.checks.that(f"a needed node is drained all the same: {drained.stderr}", drained.returncode == 0)
        self.checks.that(f"it says that it waits: {drained.stderr}", "need this node for a majority" in drained.stderr)
        self.checks.that(f"it says that it goes on: {drained.stderr}", "going on all the same" in drained.stderr)
        self.checks.that(f"within the grace ({took:.0f} s)", took < self.site.grace_s)
        self.checks.that("a drained node is not ready, and lives", pod.probe("readinessProbe") == 503 and pod.probe("livenessProbe") == 200)
        revive = [it for it in self.site.node["lifecycle"]["preStop"]["exec"]["command"] if not it.startswith("--within")]
        revive = ["revive" if it == "drain" else it for it in revive]
        revived = subprocess.run(pod.enter(revive), capture_output=True, text=True, check=False)
        self.checks.that(f"revive ends the drain: {revived.stderr}", revived.returncode == 0)
        pod.wait_ready()
        back = self.start(2)
        back.publish_name()
        back.wait_ready()

    def lost_quorum_restarts_nobody(self):
        for index in (1, 2):
            self.pods.pop(index).remove()
        pod = self.pods[0]
        until("the loss is seen", lambda: self.client("cluster", "status").returncode != 0)
        time.sleep(2)
        self.checks.that("without quorum a node lives", pod.probe("livenessProbe") == 200)
        self.checks.that("without quorum a node stays ready: its clients are told why", pod.probe("readinessProbe") == 200)
        for index in (1, 2):
            self.start(index).publish_name()
        for pod in self.pods.values():
            pod.wait_ready()
        self.publish("quorum back")

    def empty_volume_gets_new_replicas(self):
        """A pod whose volume was lost must not vote as if it were the old node: it gets new replicas, and the old volume is refused."""
        self.pods.pop(1).remove()
        volume = self.site.volume(1)
        kept, newer = self.site.scratch / "kept", self.site.scratch / "newer"
        volume.rename(kept)
        pod = self.start(1)
        pod.publish_name()
        pod.wait_ready()
        self.publish("volume lost")
        self.pods.pop(1).remove()
        volume.rename(newer)
        kept.rename(volume)
        pod = Pod(self.site, name_of(1), volume).start()
        pod.publish_name()
        code = pod.main.wait(timeout=30)
        said = pod.log_end()
        self.checks.that("a directory that was replaced ends the process, with an error", code not in (0, None))
        self.checks.that(f"and it says why:\n{said}", "belong" in said)
        pod.remove()
        shutil.rmtree(volume)
        newer.rename(volume)
        pod = self.start(1)
        pod.publish_name()
        pod.wait_ready()
        self.publish("new volume back")

    def scaled_to_five_and_back_to_three(self):
        """New ordinals join by themselves, with the list of peers that the first three formed with; those that are to go are removed first."""
        for index in (3, 4):
            self.start(index).publish_name()
        for index in (3, 4):
            self.pods[index].wait_ready()
        self.publish("scaled to five")
        for index in (3, 4):
            added = self.client("cluster", "add", str(index + 1), "--within", "100")
            self.checks.that(f"node {index + 1} has its share: {added.stderr}", added.returncode == 0)
        status = json.loads(self.client("cluster", "status", "--output", "json").stdout)
        replicas = {it["node_id"]: it["replicas"] for it in status["nodes"]}
        self.checks.that(f"five nodes have replicas: {replicas}", sorted(replicas) == [1, 2, 3, 4, 5] and min(replicas.values()) > 0)
        self.publish("five with their shares")
        for index in (4, 3):
            removed = self.client("cluster", "remove", str(index + 1), "--within", "100")
            self.checks.that(f"node {index + 1} is removed: {removed.stderr}", removed.returncode == 0)
            _, code = self.pods.pop(index).delete()
            self.checks.that(f"its pod ends in good order ({code})", code == 0)
            self.publish(f"{index} left")
        status = json.loads(self.client("cluster", "status", "--output", "json").stdout)
        self.checks.that("three nodes are left", [it["node_id"] for it in status["nodes"]] == [1, 2, 3])

    def nothing_is_lost(self):
        count = str(len(self.confirmed))
        done = self.client("consume", "--queue", "life", "--count", count)
        found = done.stdout.splitlines()
        self.checks.that(f"all {count} confirmed messages come out: {done.stderr}", sorted(found) == sorted(self.confirmed))

    def end(self):
        for pod in self.pods.values():
            pod.remove()


def container_pid(pod):
    """nsenter, setpriv and chroot each become the next."""
    return pod.main.pid


def chapters(life):
    """Those between the start and the end. WARREN_CHAPTERS names the ones to play, with commas, while one is worked on: each leaves three
    pods that serve."""
    every = (
        life.smoke_test,
        life.rolling_restart,
        life.killed_pod_comes_back_elsewhere,
        life.drain_goes_on_at_its_deadline,
        life.lost_quorum_restarts_nobody,
        life.empty_volume_gets_new_replicas,
        life.scaled_to_five_and_back_to_three,
    )
    wanted = [it for it in os.environ.get("WARREN_CHAPTERS", "").split(",") if it]
    unknown = set(wanted) - {it.__name__ for it in every}
    if unknown:
        raise SystemExit(f"no such chapters: {sorted(unknown)}")
    return [it for it in every if not wanted or it.__name__ in wanted]


def main():
    scratch = Path(sys.argv[1]) / "pods"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    command = renderer(Path(sys.argv[1]))
    if command is None:
        print("skipped: neither kubectl nor kustomize is here, nor Go to build it")
        return
    objects = render(command, KUBERNETES / "overlays" / "development")
    seed = int(os.environ.get("WARREN_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"WARREN_SEED={seed}")
    checks = Checks()
    life = Life(Site(objects, scratch), checks, seed)
    try:
        life.all_at_once_in_any_order()
        for chapter in chapters(life):
            print(f"== {chapter.__name__}", flush=True)
            chapter()
        life.nothing_is_lost()
    finally:
        for pod in list(life.pods.values()):
            if checks.failed:
                print(f"-- {pod.name}\n{pod.log_end()}")
        life.end()
    checks.end()


if __name__ == "__main__":
    main()
