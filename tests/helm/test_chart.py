"""What the chart renders: each promise of an operator's, looked up in the objects."""

import re
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from streamer.settings import KafkaSettings, load_settings
from tests.helm.chart import ASSUMED, CHART, NAMESPACE, RELEASE, run, template

NEEDS = ("helm",)
SHAPES = sorted(path.stem.removesuffix("-values") for path in (CHART / "ci").glob("*-values.yaml"))
NAME = f"{RELEASE}-tidecast"
CLIENTS = get_args(KafkaSettings.model_fields["client"].annotation)
RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
Objects = dict[tuple[str, str], Any]


@cache
def rendered(shape: str = "minimal", *sets: str) -> Objects:
    """The objects of a shape, by kind and name."""
    values = CHART / "ci" / f"{shape}-values.yaml"
    done = template("-f", str(values), *[part for s in sets for part in ("--set", s)])
    assert done.returncode == 0, done.stderr
    documents = [d for d in yaml.safe_load_all(done.stdout) if d]
    objects = {(d["kind"], d["metadata"]["name"]): d for d in documents}
    assert len(objects) == len(documents), "two objects of one name"
    return objects


def pod(objects: Objects) -> dict[str, Any]:
    return objects["StatefulSet", NAME]["spec"]["template"]["spec"]


def streamer(objects: Objects) -> dict[str, Any]:
    return pod(objects)["containers"][0]


def pods_of(objects: Objects) -> dict[str, dict[str, Any]]:
    """Every pod spec that the chart makes, by its object's kind and name."""
    found = {}
    for (kind, name), o in objects.items():
        if kind in ("StatefulSet", "Job"):
            found[f"{kind} {name}"] = o["spec"]["template"]["spec"]
        elif kind == "CronJob":
            found[f"{kind} {name}"] = o["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        elif kind == "Pod":
            found[f"{kind} {name}"] = o["spec"]
    return found


def labels_of(objects: Objects, name: str) -> dict[str, str]:
    """The labels of the pod of this name, or of the pods that a Job or CronJob of this name makes."""
    above: dict[str, list[str]] = {
        "Pod": [],
        "Job": ["spec", "template"],
        "CronJob": ["spec", "jobTemplate", "spec", "template"],
    }
    (found,) = [reduce(getitem, above[kind], o) for (kind, n), o in objects.items() if n == name and kind in above]
    return found["metadata"]["labels"]


def settings_text(objects: Objects) -> str:
    return objects["ConfigMap", NAME]["data"]["streamer.yaml"]


def load(objects: Objects, tmp_path: Path) -> Any:
    """The settings as the daemon would read them in its pod."""
    file = tmp_path / "streamer.yaml"
    file.write_text(settings_text(objects))
    environ = {v["name"]: v.get("value", "from-a-secret") for v in streamer(objects).get("env", [])}
    return load_settings(["--config", str(file)], environ)


@pytest.mark.parametrize("shape", SHAPES)
def test_lint_has_nothing_to_say(shape):
    values = str(CHART / "ci" / f"{shape}-values.yaml")
    done = run("helm", "lint", "--strict", str(CHART), "-f", values, *ASSUMED)
    assert done.returncode == 0, done.stdout + done.stderr


# settings


@pytest.mark.parametrize("shape", SHAPES)
def test_the_daemon_accepts_the_settings_it_is_given(shape, tmp_path):
    settings = load(rendered(shape), tmp_path)
    assert settings.http.host == "0.0.0.0"
    assert settings.kafka.group_id


def test_large_numbers_stay_numbers(tmp_path):
    assert load(rendered("configmap"), tmp_path).state.max_streams == 2_000_000
    assert load(rendered("minimal", "config.state.max_streams=30000000"), tmp_path).state.max_streams == 30_000_000


def test_the_group_is_named_after_the_release_unless_it_is_named(tmp_path):
    assert load(rendered(), tmp_path).kafka.group_id == NAME
    assert load(rendered("volume"), tmp_path).kafka.group_id == "meters"


def test_each_pod_has_a_place_of_its_own_in_the_group():
    variables = {v["name"]: v for v in streamer(rendered())["env"]}
    place = variables["STREAMER_KAFKA__GROUP_INSTANCE_ID"]
    assert place["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert "env" not in streamer(rendered("configmap")), "dynamic members have none"


def test_a_change_of_settings_replaces_the_pods_and_a_change_of_scale_does_not():
    def checksum(*sets: str) -> str:
        objects = rendered("minimal", *sets)
        return objects["StatefulSet", NAME]["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]

    assert checksum("config.delivery.commit_interval_seconds=0.2") != checksum()
    assert checksum("replicas=5") == checksum()


def test_a_kubernetes_service_puts_nothing_into_the_environment():
    for name, spec in pods_of(rendered("secure")).items():
        assert spec["enableServiceLinks"] is False, name


# secrets


@pytest.mark.parametrize("client", CLIENTS)
def test_passwords_come_from_secrets_under_the_clients_own_names(client):
    user, password = {
        "kafka-python": ("SASL_PLAIN_USERNAME", "SASL_PLAIN_PASSWORD"),
        "confluent": ("SASL__USERNAME", "SASL__PASSWORD"),
    }[client]
    objects = rendered("secure", f"config.kafka.client={client}")
    for spec in pods_of(objects).values():
        for container in spec["containers"] + spec.get("initContainers", []):
            if container["name"] in ("streamer", "doctor", "topics"):
                found = {v["name"]: v for v in container["env"]}
                for name, key in ((user, "username"), (password, "password")):
                    source = found[f"STREAMER_KAFKA__OPTIONS__{name}"]["valueFrom"]["secretKeyRef"]
                    assert source == {"name": "kafka-user", "key": key}


@pytest.mark.parametrize("client", CLIENTS)
def test_tls_and_sasl_are_said_in_each_clients_words(client):
    expected = {
        "kafka-python": {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "ssl_cafile": "/etc/tidecast-tls/ca/ca.crt",
            "ssl_certfile": "/etc/tidecast-tls/client/tls.crt",
            "ssl_keyfile": "/etc/tidecast-tls/client/tls.key",
        },
        "confluent": {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "ssl.ca.location": "/etc/tidecast-tls/ca/ca.crt",
            "ssl.certificate.location": "/etc/tidecast-tls/client/tls.crt",
            "ssl.key.location": "/etc/tidecast-tls/client/tls.key",
        },
    }
    found = yaml.safe_load(settings_text(rendered("secure", f"config.kafka.client={client}")))
    assert found["kafka"]["options"] == expected[client]


def test_only_what_is_asked_for_is_encrypted():
    def protocol(*sets: str) -> object:
        options = yaml.safe_load(settings_text(rendered("minimal", *sets)))["kafka"].get("options", {})
        return options.get("security_protocol") or options.get("security.protocol")

    assert protocol() is None
    assert protocol("kafka.tls.enabled=true") == "SSL"
    assert protocol("kafka.sasl.enabled=true", "kafka.sasl.existingSecret=s") == "SASL_PLAINTEXT"


def test_certificates_are_mounted_for_whoever_talks_to_kafka():
    for name, spec in pods_of(rendered("secure")).items():
        if "training" not in name:
            mounted = {
                m["name"] for c in spec["containers"] + spec.get("initContainers", []) for m in c["volumeMounts"]
            }
            assert {"kafka-ca", "kafka-client"} <= mounted, name


# the model


@pytest.mark.parametrize(
    ("shape", "path"),
    [
        ("minimal", "/opt/tidecast/demo/model.onnx"),
        ("volume", "/models/model.onnx"),
        ("configmap", "/models/model.onnx"),
        ("http", "/models/model.onnx"),
        ("secure", "/models/model.onnx"),
    ],
)
def test_the_model_is_where_the_daemon_looks_for_it(shape, path, tmp_path):
    objects = rendered(shape)
    assert load(objects, tmp_path).model.path == path
    mounts = {m["name"]: m["mountPath"] for m in streamer(objects)["volumeMounts"]}
    assert mounts.get("model") == (None if shape == "minimal" else "/models")


def test_each_source_of_a_model_has_its_volume():
    def volume(shape: str) -> dict[str, Any]:
        return next(v for v in pod(rendered(shape))["volumes"] if v["name"] == "model")

    assert volume("volume")["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    assert volume("configmap")["configMap"] == {"name": "model-v1"}
    assert volume("http")["emptyDir"] == volume("secure")["emptyDir"] == {}


def test_a_fetched_model_is_held_against_its_checksum():
    for shape, url in (
        ("http", "https://models.example.org/gru-64.onnx"),
        ("secure", "https://minio.storage:9000/models/gru-64/3.onnx"),
    ):
        objects = rendered(shape)
        fetch = next(c for c in pod(objects)["initContainers"] if c["name"] == "fetch-model")
        variables = {v["name"]: v for v in fetch["env"]}
        assert variables["MODEL_URL"]["value"] == url
        assert re.fullmatch("[0-9a-f]{64}", variables["MODEL_SHA256"]["value"])
        program = (CHART / "files" / "fetch_model.py").read_text()
        assert objects["ConfigMap", f"{NAME}-fetch-model"]["data"]["fetch_model.py"].rstrip() == program.rstrip()


def test_what_fetches_the_model_can_be_given_an_authority_to_trust():
    fetch = pod(rendered("http"))["initContainers"][0]
    assert {"name": "SSL_CERT_FILE", "value": "/etc/ca/ca.crt"} in fetch["env"]
    assert {"name": "ca", "mountPath": "/etc/ca", "readOnly": True} in fetch["volumeMounts"]


def test_another_model_replaces_the_pods():
    def template_of(*sets: str) -> object:
        return rendered("configmap", *sets)["StatefulSet", NAME]["spec"]["template"]

    assert template_of("model.configMap.name=model-v2") != template_of()
    assert template_of("model.revision=2") != template_of()


# the pod


@pytest.mark.parametrize("shape", SHAPES)
def test_every_pod_meets_the_restricted_standard(shape):
    for name, spec in pods_of(rendered(shape)).items():
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        own = [c for c in spec["containers"] + spec.get("initContainers", []) if "busybox" not in c["image"]]
        assert own
        for container in own:
            assert container["securityContext"] == RESTRICTED, (name, container["name"])
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"], (name, container["name"])


def test_a_pod_has_more_time_to_end_than_a_transaction_lasts():
    assert pod(rendered())["terminationGracePeriodSeconds"] > 20


def test_probes_ask_what_each_is_for():
    container = streamer(rendered())
    assert container["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300


def test_the_port_is_one_wherever_it_stands(tmp_path):
    objects = rendered("minimal", "config.http.port=8080")
    assert load(objects, tmp_path).http.port == 8080
    assert streamer(objects)["ports"] == [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    for name in (NAME, f"{NAME}-pods"):
        assert objects["Service", name]["spec"]["ports"][0]["port"] == 8080
    assert f"http://{NAME}:8080" in objects["Pod", f"{NAME}-test"]["spec"]["containers"][0]["command"]


def test_pods_are_spread_by_their_own_labels():
    objects = rendered()
    labels = objects["StatefulSet", NAME]["spec"]["selector"]["matchLabels"]
    constraints = pod(objects)["topologySpreadConstraints"]
    assert [c["topologyKey"] for c in constraints] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert all(c["labelSelector"] == {"matchLabels": labels} for c in constraints)


def test_a_selector_of_ones_own_is_left_as_it_is():
    own = ["topologyKey=zone", "maxSkew=1", "whenUnsatisfiable=DoNotSchedule", "labelSelector.matchLabels.team=a"]
    objects = rendered("minimal", *[f"topologySpreadConstraints[0].{s}" for s in own])
    assert pod(objects)["topologySpreadConstraints"][0]["labelSelector"] == {"matchLabels": {"team": "a"}}


def test_a_key_in_a_store_may_hold_anything():
    init = pod(rendered("secure", "model.s3.key=a b/c+d%3?#.onnx"))["initContainers"][0]
    address = {e["name"]: e.get("value") for e in init["env"]}["MODEL_URL"]
    assert address == "https://minio.storage:9000/models/a%20b/c%2Bd%253%3F%23.onnx"


def test_what_fetches_the_model_asks_for_no_device():
    """The pod of `helm test` fetches it, too, while the daemon's pods hold every GPU."""
    objects = rendered("secure", r"resources.limits.nvidia\.com/gpu=1")
    assert streamer(objects)["resources"]["limits"]["nvidia.com/gpu"] == 1
    test = objects["Pod", f"{NAME}-test"]["spec"]
    for container in [*pod(objects)["initContainers"], *test["initContainers"], *test["containers"]]:
        assert set(container["resources"]["limits"]) == {"memory"}


def test_an_image_is_named_by_digest_tag_or_the_charts_version():
    assert streamer(rendered())["image"] == "tidecast:0.1.0"
    assert streamer(rendered("minimal", "image.tag=x"))["image"] == "tidecast:x"
    assert re.fullmatch(r"registry.example.org/tidecast-gpu@sha256:[0-9a-f]{64}", streamer(rendered("gpu"))["image"])


def test_whole_numbers_have_no_exponent(tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(
        "image: {tag: 20261125}\nmodel: {revision: 20261126}\nterminationGracePeriodSeconds: 1000000\n"
        "topics: {create: true, partitions: 1000000, activeDeadlineSeconds: 2000000}\n"
        "autoscaling: {enabled: true, maxReplicas: 3, lagThreshold: 3000000}\n"
        "training: {enabled: true, volumeClaim: x, config: {name: x}, activeDeadlineSeconds: 4000000,\n"
        "  image: {tag: 5000000}}\n"
    )
    for values in (["-f", str(file)], ["-f", str(file), "--set", "image.tag=20261125"]):
        done = template("-f", str(CHART / "ci" / "minimal-values.yaml"), *values)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("image: tidecast:20261125\n") == 3
        for text in (
            'tidecast/model-revision: "20261126"',
            "terminationGracePeriodSeconds: 1000000",
            "activeDeadlineSeconds: 2000000",
            "--partitions=1000000",
            'lagThreshold: "3000000"',
            "activeDeadlineSeconds: 4000000",
            "image: tidecast-trainer:5000000",
        ):
            assert f"{text}\n" in done.stdout


def test_only_the_daemon_asks_for_a_device():
    objects = rendered("gpu", "topics.create=true")
    for name in (("Job", f"{NAME}-topics"), ("Pod", f"{NAME}-test")):
        spec = pods_of(objects)[" ".join(name)]
        assert spec["containers"][0]["resources"] == {
            "requests": {"cpu": "1", "memory": "4Gi"},
            "limits": {"memory": "8Gi"},
        }
    variables = {v["name"]: v for v in objects["Pod", f"{NAME}-test"]["spec"]["containers"][0]["env"]}
    assert variables["STREAMER_MODEL__PROVIDERS"]["value"] == '["CPUExecutionProvider"]'


def test_a_probe_without_values_keeps_kubernetes_own():
    assert set(streamer(rendered("minimal", "probes.startup=null"))["startupProbe"]) == {"httpGet"}


@pytest.mark.parametrize("schedule", ["@daily", "*/5 2 * * 1-5"])
def test_a_schedule_is_five_fields_or_a_word(schedule):
    cron = rendered("volume", f"training.schedule={schedule}")["CronJob", f"{NAME}-training"]
    assert cron["spec"]["schedule"] == schedule


def test_what_is_added_to_the_pod_is_there():
    spec = pod(rendered("gpu"))
    container = spec["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert (spec["runtimeClassName"], spec["priorityClassName"]) == ("nvidia", "high")
    assert spec["nodeSelector"] == {"accelerator": "nvidia"}
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert {"name": "CUDA_VISIBLE_DEVICES", "value": "0"} in container["env"]
    assert container["envFrom"] == [{"secretRef": {"name": "more-settings"}}]
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert [c["name"] for c in spec["containers"]] == ["streamer", "beside"]
    assert [c["name"] for c in spec["initContainers"]] == ["hello"]
    metadata = rendered("gpu")["StatefulSet", NAME]["spec"]["template"]["metadata"]
    assert metadata["labels"]["cost-centre"] == "42"
    assert metadata["annotations"]["note"] == "on a GPU"
    assert ("ServiceAccount", NAME) not in rendered("gpu")
    assert ("PodDisruptionBudget", NAME) not in rendered("gpu")


# the objects around it


@pytest.mark.parametrize("shape", SHAPES)
def test_everything_is_in_the_releases_namespace_and_labelled(shape):
    for name, o in rendered(shape).items():
        assert o["metadata"]["namespace"] == NAMESPACE, name
        assert o["metadata"]["labels"]["app.kubernetes.io/instance"] == RELEASE, name


@pytest.mark.parametrize("shape", SHAPES)
def test_what_selects_pods_selects_the_daemons_and_no_other(shape):
    objects = rendered(shape)
    labels = objects["StatefulSet", NAME]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [objects["Service", n]["spec"]["selector"] for n in (NAME, f"{NAME}-pods")]
    selectors += [o["spec"]["selector"]["matchLabels"] for (k, _), o in objects.items() if k == "PodDisruptionBudget"]
    own = [o for key, o in objects.items() if key == ("NetworkPolicy", NAME)]
    selectors += [o["spec"]["podSelector"]["matchLabels"] for o in own]
    selectors += [objects["StatefulSet", NAME]["spec"]["selector"]["matchLabels"]]
    others = [o["spec"]["template"]["metadata"]["labels"] for (k, _), o in objects.items() if k == "Job"]
    others += [o["metadata"]["labels"] for (k, _), o in objects.items() if k == "Pod"]
    for selector in selectors:
        assert selector.items() <= labels
        assert not any(selector.items() <= other.items() for other in others)


def test_names_fit_however_long_the_release_is():
    values = str(CHART / "ci" / "secure-values.yaml")
    done = run("helm", "template", "r" * 53, str(CHART), "-f", values, *ASSUMED)
    names = [d["metadata"]["name"] for d in yaml.safe_load_all(done.stdout) if d]
    assert names
    assert max(map(len, names)) <= 63


def test_a_drain_takes_one_pod_at_a_time_and_never_waits_for_a_broken_one():
    spec = rendered()["PodDisruptionBudget", NAME]["spec"]
    assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


def test_the_network_is_closed_but_for_what_is_named():
    spec = rendered("http")["NetworkPolicy", NAME]["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"][0]["ports"] == [{"port": "http", "protocol": "TCP"}]
    assert spec["ingress"][0]["from"][0]["namespaceSelector"]
    test = rendered("http")["Pod", f"{NAME}-test"]["metadata"]["labels"]
    assert spec["ingress"][0]["from"][1]["podSelector"]["matchLabels"].items() <= test.items(), "helm test is let in"
    assert [[p["port"] for p in rule["ports"]] for rule in spec["egress"]] == [[53, 53], [9092, 9094], [443]]
    assert spec["egress"][1]["to"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}]


def test_pods_beside_the_daemon_reach_what_they_need_in_a_namespace_that_denies_everything():
    for shape, kafka, model in (("volume", [9092], []), ("secure", [9093], [[9000]]), ("http", [9092, 9094], [[443]])):
        objects = rendered(shape, "topics.create=true")
        for component, more in {"test": [*model, [9108]], "topics": [], "training": []}.items():
            name = f"{NAME}-{component}"
            if component == "training" and ("CronJob", name) not in objects:
                continue
            spec = objects["NetworkPolicy", name]["spec"]
            assert spec["policyTypes"] == ["Ingress", "Egress"]
            assert spec["podSelector"]["matchLabels"].items() <= labels_of(objects, name).items()
            assert "ingress" not in spec, "nobody asks them anything"
            assert [[p["port"] for p in rule["ports"]] for rule in spec["egress"]] == [[53, 53], kafka, *more]
        last = objects["NetworkPolicy", f"{NAME}-test"]["spec"]["egress"][-1]
        pods = objects["StatefulSet", NAME]["spec"]["template"]["metadata"]["labels"]
        assert last["to"][0]["podSelector"]["matchLabels"].items() <= pods.items()


def test_the_topics_job_is_let_out_before_it_runs():
    objects = rendered("http", "topics.create=true")
    policy = objects["NetworkPolicy", f"{NAME}-topics"]["metadata"]["annotations"]
    job = objects["Job", f"{NAME}-topics"]["metadata"]["annotations"]
    assert policy["helm.sh/hook"] == job["helm.sh/hook"]
    assert int(policy["helm.sh/hook-weight"]) < int(job.get("helm.sh/hook-weight", 0))


def test_autoscaling_follows_the_lag_within_bounds_and_goes_down_slowly():
    objects = rendered("secure")
    assert "replicas" not in objects["StatefulSet", NAME]["spec"], "or each upgrade would undo KEDA's number"
    spec = objects["ScaledObject", NAME]["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": NAME}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 12)
    assert "idleReplicaCount" not in spec
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] >= 600
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 300}]
    assert [t["metadata"]["topic"] for t in spec["triggers"]] == ["meters", "weather"]
    for trigger in spec["triggers"]:
        assert trigger["metadata"]["allowIdleConsumers"] == "false"
        assert trigger["metadata"]["consumerGroup"] == "tidecast"
        assert (trigger["metadata"]["sasl"], trigger["metadata"]["tls"]) == ("scram_sha512", "enable")
        assert trigger["metadata"]["offsetResetPolicy"] == "latest"
        assert trigger["authenticationRef"] == {"name": NAME}
    given = {s["parameter"]: s["name"] for s in objects["TriggerAuthentication", NAME]["spec"]["secretTargetRef"]}
    assert given == {
        "username": "kafka-user",
        "password": "kafka-user",
        "ca": "kafka-cluster-ca",
        "cert": "kafka-user-tls",
        "key": "kafka-user-tls",
    }


def test_autoscaling_logs_in_only_where_there_is_something_to_log_in_with():
    objects = rendered("minimal", "autoscaling.enabled=true", "autoscaling.maxReplicas=3", "kafka.tls.enabled=true")
    assert ("TriggerAuthentication", NAME) not in objects
    (trigger,) = objects["ScaledObject", NAME]["spec"]["triggers"]
    assert trigger["metadata"]["tls"] == "enable"
    assert "authenticationRef" not in trigger


def test_prometheus_scrapes_each_pod_once():
    objects = rendered("secure")
    monitor = objects["ServiceMonitor", NAME]
    assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    matching = [n for (k, n), o in objects.items() if k == "Service" and wanted <= o["metadata"]["labels"].items()]
    assert matching == [NAME]


def test_the_alerts_arrive_as_they_are_written():
    rule = rendered("secure", "prometheusRule.runbookUrl=https://wiki/runbook")["PrometheusRule", NAME]
    assert rule["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    written = (CHART / "alerts.yaml").read_text().replace("RUNBOOK#", "https://wiki/runbook#")
    assert rule["spec"] == yaml.safe_load(written)
    assert "{{ $labels" in written, "Prometheus fills these in, not Helm"


def test_each_dashboard_is_a_configmap_that_the_sidecar_finds():
    dashboards = sorted((CHART / "dashboards").glob("*.json"))
    assert dashboards
    for path in dashboards:
        found = rendered("secure")["ConfigMap", f"{NAME}-{path.stem}"]
        assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert found["metadata"]["annotations"] == {"grafana_folder": "Tidecast"}
        assert found["data"][f"tidecast-{path.name}"].strip() == path.read_text().strip()


def test_topics_are_made_before_the_daemon_starts():
    objects = rendered("configmap")
    job = objects["Job", f"{NAME}-topics"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][:2] == ["topics", "create"]
    assert container["args"][-2:] == ["--partitions=12", "--replication=3"]
    assert "serviceAccountName" not in job["spec"]["template"]["spec"], "the chart's is not there yet"
    own = objects["ConfigMap", f"{NAME}-topics"]
    assert own["data"]["streamer.yaml"] == settings_text(objects)
    assert int(own["metadata"]["annotations"]["helm.sh/hook-weight"]) < 0


def test_a_cronjob_trains_onto_the_volume_that_the_daemon_reads():
    objects = rendered("volume")
    cron = objects["CronJob", f"{NAME}-training"]["spec"]
    assert (cron["schedule"], cron["concurrencyPolicy"]) == ("0 2 * * *", "Forbid")
    spec = cron["jobTemplate"]["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"] == "tidecast-trainer:0.1.0"
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "models"}} in spec["volumes"]
    assert yaml.safe_load(objects["ConfigMap", f"{NAME}-training"]["data"]["training.yaml"])["name"] == "meters"


def test_helm_test_asks_the_doctor_and_then_the_daemon():
    test = rendered()["Pod", f"{NAME}-test"]
    (container,) = test["spec"]["containers"]
    assert container["command"][2].startswith("streamer doctor --config /etc/tidecast/streamer.yaml && ")
    assert "/metrics" in container["command"][4]
    assert "hook-succeeded" not in test["metadata"]["annotations"]["helm.sh/hook-delete-policy"], (
        "its log would be gone"
    )


def test_what_is_optional_is_off_unless_asked_for():
    kinds = {kind for kind, _ in rendered()}
    assert kinds == {"StatefulSet", "ConfigMap", "Service", "ServiceAccount", "PodDisruptionBudget", "Pod"}
