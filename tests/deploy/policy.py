"""What every rendered installation must keep: one named rule for each sentence of the requirements on Kubernetes."""

import tomllib

from render import find

NODE = {"app.kubernetes.io/name": "warren", "app.kubernetes.io/component": "node"}
MONITORED_PORT = "metrics"


def check(objects, overlay, checks):
    def rule(text, holds):
        checks.that(f"{overlay}: {text}", holds)

    stateful_set(objects, overlay, rule)
    containers(objects, rule)
    probes(objects, rule)
    services(objects, rule)
    network(objects, rule)
    others(objects, overlay, rule)


def pod_of(objects):
    return find(objects, "StatefulSet", "warren")["spec"]["template"]["spec"]


def node_of(objects):
    return next(it for it in pod_of(objects)["containers"] if it["name"] == "warren")


def selects_nodes(selector):
    return selector == NODE


def stateful_set(objects, overlay, rule):
    spec = find(objects, "StatefulSet", "warren")["spec"]
    pod = spec["template"]["spec"]
    rule("three nodes", spec["replicas"] == 3)
    rule("pods start in parallel", spec["podManagementPolicy"] == "Parallel")
    rule("names come from the headless service", spec["serviceName"] == "warren-nodes")
    rule("pods carry what is selected", lambda: NODE.items() <= spec["template"]["metadata"]["labels"].items())
    rule("volumes outlive pods", lambda: set(spec["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"})
    rule("data has a volume claim", lambda: [it["metadata"]["name"] for it in spec["volumeClaimTemplates"]] == ["data"])
    rule("60 s to end", pod["terminationGracePeriodSeconds"] == 60)
    rule("no token of the API", pod["automountServiceAccountToken"] is False)
    zones = [it for it in pod["topologySpreadConstraints"] if it["topologyKey"] == "topology.kubernetes.io/zone"]
    rule("spread over zones", lambda: zones[0]["maxSkew"] == 1 and selects_nodes(zones[0]["labelSelector"]["matchLabels"]))
    if overlay == "production":
        terms = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        rule(
            "never two nodes on one host",
            lambda: any(it["topologyKey"] == "kubernetes.io/hostname" and selects_nodes(it["labelSelector"]["matchLabels"]) for it in terms),
        )
        rule("zones are required", lambda: zones[0]["whenUnsatisfiable"] == "DoNotSchedule")
    claim = spec["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
    rule("more disk than the alarm keeps free", quantity(claim) > 2 * quantity("2Gi"))


def containers(objects, rule):
    """Pod Security "restricted", and what goes beyond it, for every container of every pod."""
    for owner in find(objects, "StatefulSet") + find(objects, "Job"):
        name = f"{owner['kind']} {owner['metadata']['name']}"
        pod = owner["spec"]["template"]["spec"]
        security = pod["securityContext"]
        rule(f"{name}: not root", security["runAsNonRoot"] is True)
        rule(f"{name}: user of at least 10000", security["runAsUser"] >= 10000 and security["runAsGroup"] >= 10000)
        rule(f"{name}: seccomp RuntimeDefault", lambda s=security: s["seccompProfile"]["type"] == "RuntimeDefault")
        rule(f"{name}: nothing of the host", not ({"hostNetwork", "hostPID", "hostIPC"} & pod.keys()))
        rule(f"{name}: no token of the API", pod["automountServiceAccountToken"] is False)
        allowed = {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected", "downwardAPI"}
        kinds = {kind for it in pod.get("volumes", []) for kind in it if kind != "name"}
        rule(f"{name}: only plain volumes", kinds <= allowed)
        for it in pod["containers"] + pod.get("initContainers", []):
            own = it["securityContext"]
            rule(f"{name}: {it['name']}: no more privileges", own["allowPrivilegeEscalation"] is False)
            rule(f"{name}: {it['name']}: read-only root", own["readOnlyRootFilesystem"] is True)
            rule(f"{name}: {it['name']}: no capability", own["capabilities"] == {"drop": ["ALL"]})
            rule(f"{name}: {it['name']}: not privileged", not own.get("privileged"))
            resources = it["resources"]
            memory = resources["requests"]["memory"]
            rule(f"{name}: {it['name']}: memory requested is the limit", memory == resources["limits"]["memory"])
            rule(f"{name}: {it['name']}: CPU requested", "cpu" in resources["requests"])
            rule(f"{name}: {it['name']}: an image with a version", ":" in it["image"].rsplit("/", 1)[-1])
    pod = pod_of(objects)
    rule("volumes belong to the group", pod["securityContext"]["fsGroup"] >= 10000)
    secrets = {it["secret"]["secretName"]: it["secret"]["defaultMode"] for it in pod["volumes"] if "secret" in it}
    rule("the secrets are for owner and group alone", secrets == {"warren-cluster": 0o440, "warren-first-user": 0o440})
    rule("the first user's password is a mounted file", first_user(objects) is not None)
    in_environment = [it for it in node_of(objects)["env"] if "SECRET" in it["name"] or "PASSWORD" in it["name"]]
    rule("no secret in the environment", not in_environment)


def first_user(objects):
    """Name, and the file with the password, if that is in a mounted secret."""
    auth = tomllib.loads(find(objects, "ConfigMap")[0]["data"]["warren.toml"])["auth"]
    path = auth["first_password_file"]
    volumes = {it["name"]: it.get("secret", {}) for it in pod_of(objects)["volumes"]}
    for mount in node_of(objects)["volumeMounts"]:
        keys = {it["path"] for it in volumes.get(mount["name"], {}).get("items", [])}
        if path in {f"{mount['mountPath']}/{key}" for key in keys}:
            return auth["first_user"], path
    return None


def options_of(command):
    return dict(it.split("=", 1) for it in command if it.startswith("--") and "=" in it)


def probes(objects, rule):
    node = node_of(objects)
    ports = {it["name"]: it["containerPort"] for it in node["ports"]}
    wanted = {"startupProbe": "/startupz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for name, path in wanted.items():
        rule(f"{name} asks {path} on the HTTP port", lambda n=name, p=path: node[n]["httpGet"] == {"path": p, "port": "http"})
    rule("the HTTP port is open", ports.get("http") == 15672)
    startup = node["startupProbe"]
    rule("ten minutes to read the disk", startup["periodSeconds"] * startup["failureThreshold"] >= 600)
    live = node["livenessProbe"]
    rule("a stall of half a minute restarts nobody", live["periodSeconds"] * live["failureThreshold"] >= 30)
    command = node["lifecycle"]["preStop"]["exec"]["command"]
    rule("preStop drains", command[1:3] == ["cluster", "drain"])
    rule("preStop needs no shell", command[0] == "/usr/local/bin/warren")
    options = options_of(command)
    rule("preStop logs in as the first user", (options.get("--login"), options.get("--password-file")) == first_user(objects))
    within = float(options["--within"])
    rule("drain, 30 s for clients and the rest fit into the grace", within + 30 + 10 <= 60)
    fixed = next(it for it in node["env"] if it["name"] == "WARREN_NODE_ID")
    rule("a node's number is its pod's", fixed.get("value") == "from-hostname")
    for endpoint in ("NODE", "GRPC", "AMQP"):
        told = next(it for it in node["env"] if it["name"] == f"WARREN_ADVERTISE_{endpoint}")
        rule(f"{endpoint} is told by name, not by address", told["value"].startswith("$(POD_NAME).warren-nodes."))


def services(objects, rule):
    headless = find(objects, "Service", "warren-nodes")["spec"]
    rule("headless", headless["clusterIP"] == "None")
    rule("names before readiness", headless["publishNotReadyAddresses"] is True)
    rule("headless selects nodes", selects_nodes(headless["selector"]))
    clients = find(objects, "Service", "warren")["spec"]
    rule("clients get ready nodes only", not clients.get("publishNotReadyAddresses"))
    rule("clients: gRPC and AMQP, no more", sorted(it["name"] for it in clients["ports"]) == ["amqp", "grpc"])
    rule("clients select nodes", selects_nodes(clients["selector"]))
    names = {it["name"] for it in node_of(objects)["ports"]}
    targets = {it["targetPort"] for it in headless["ports"] + clients["ports"]}
    rule("every service port is a container's", targets <= names)
    rule("metrics have a named port", MONITORED_PORT in {it["name"] for it in headless["ports"]})


def network(objects, rule):
    policies = {it["metadata"]["name"]: it["spec"] for it in find(objects, "NetworkPolicy")}
    deny = policies.pop("warren-default-deny")
    rule("nothing is allowed by default", set(deny["policyTypes"]) == {"Ingress", "Egress"} and not {"ingress", "egress"} & deny.keys())
    rule("three policies allow", sorted(policies) == ["warren-clients", "warren-monitoring", "warren-nodes"])
    rule("all are about nodes", all(selects_nodes(it["podSelector"]["matchLabels"]) for it in [deny, *policies.values()]))

    def ports(policy):
        return sorted(port["port"] for it in policies[policy]["ingress"] for port in it["ports"])

    rule("clients reach gRPC and AMQP", ports("warren-clients") == ["amqp", "grpc"])
    rule("monitoring reaches metrics", ports("warren-monitoring") == ["metrics"])
    rule("nodes reach each other", ports("warren-nodes") == ["node"])
    sources = [it for policy in policies.values() for it in policy["ingress"]]
    rule("every rule names who may", all(it.get("from") for it in sources))
    peers = policies["warren-nodes"]["ingress"][0]["from"]
    rule("only nodes reach the node port", peers == [{"podSelector": {"matchLabels": NODE}}])
    egress = policies["warren-nodes"]["egress"]
    rule("nodes may ask DNS", any(port["port"] == 53 and port["protocol"] == "UDP" for it in egress for port in it["ports"]))
    rule("nodes go nowhere else", all(it.get("to") for it in egress))


def others(objects, overlay, rule):
    budget = find(objects, "PodDisruptionBudget", "warren")["spec"]
    rule("one node at a time", budget["maxUnavailable"] == 1)
    rule("a sick pod blocks nothing", budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow")
    rule("the budget is about nodes", selects_nodes(budget["selector"]["matchLabels"]))
    namespace = find(objects, "Namespace")[0]
    rule("Pod Security restricted", lambda: namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted")
    config = find(objects, "ConfigMap")[0]
    toml = config["data"]["warren.toml"]
    rule("no secret in the configuration", set(config["data"]) == {"warren.toml"} and "secret =" not in toml and "password =" not in toml)
    rule("nobody is let in without a password", "loopback_guest" not in toml)
    secrets = find(objects, "Secret")
    if overlay == "production":
        rule("no secret in the manifests", secrets == [])
        monitor = find(objects, "ServiceMonitor", "warren")["spec"]
        headless = find(objects, "Service", "warren-nodes")
        rule("Prometheus finds the port by name", monitor["endpoints"][0]["port"] == MONITORED_PORT)
        labels = headless["metadata"]["labels"].items()
        rule("Prometheus finds the service", monitor["selector"]["matchLabels"].items() <= labels)
    else:
        rule("secrets for development", sorted(it["metadata"]["name"] for it in secrets) == ["warren-cluster", "warren-first-user"])
        smoke = find(objects, "Job", "warren-smoke-test")["spec"]["template"]
        options = options_of(smoke["spec"]["containers"][0]["args"])
        rule("the smoke test logs in as the first user", (options.get("--login"), options.get("--password-file")) == first_user(objects))
        known = [it["secret"]["secretName"] for it in smoke["spec"]["volumes"]]
        rule("the smoke test sees no secret of the nodes", known == ["warren-first-user"])
        rule("the smoke test is warren perf", smoke["spec"]["containers"][0]["args"][0] == "perf")
        rule("the smoke test verifies", "--verify" in smoke["spec"]["containers"][0]["args"])
        rule("the smoke test may be a client", smoke["metadata"]["labels"]["warren.client"] == "true")
    images = {it["image"].rsplit(":", 1)[0] for owner in find(objects, "StatefulSet") + find(objects, "Job") for it in owner["spec"]["template"]["spec"]["containers"]}
    rule("one image for all", len(images) == 1)


def quantity(text):
    units = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
    return int(text[:-2]) * units[text[-2:]]
