"""Values that would not work are refused when the chart is rendered, with the remedy."""

import pytest

from tests.helm.chart import CHART, template

NEEDS = ("helm",)
MINIMAL = str(CHART / "ci" / "minimal-values.yaml")


def refusal(*sets: str, values: str | None = MINIMAL) -> str:
    done = template(*(["-f", values] if values else []), *[part for s in sets for part in ("--set", s)])
    assert done.returncode != 0, f"{sets} was accepted"
    return done.stderr


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("replicaCount=3", "replicaCount"),
        ("config.kafka.bootstrap=kafka:9092", "bootstrap"),
        ("config.state.max_stream=3", "max_stream"),
        ("config.inputs.topics={a}", "inputs"),
        ("image.tags=x", "tags"),
        ("autoscaling.enable=true", "enable"),
        ("serviceMonitor.label.release=x", "label"),
        ("model.sha265=x", "sha265"),
    ],
)
def test_a_misspelt_value_is_refused_by_its_name(setting, named):
    assert f"additional properties '{named}' not allowed" in refusal(setting)


@pytest.mark.parametrize(
    ("setting", "where"),
    [
        ("replicas=-1", "replicas"),
        ("autoscaling.minReplicas=0", "minReplicas"),
        ("terminationGracePeriodSeconds=10", "terminationGracePeriodSeconds"),
        ("model.source=ftp", "source"),
        ("model.sha256=abc", "sha256"),
        ("image.digest=latest", "digest"),
        ("config.kafka.client=librdkafka", "client"),
        ("config.http.port=70000", "port"),
        ("config.delivery.commit_interval_seconds=soon", "commit_interval_seconds"),
        ("kafka.sasl.mechanism=MAGIC", "mechanism"),
        ("topics.replication=0", "replication"),
        ("podDisruptionBudget.maxUnavailable=0", "maxUnavailable"),
        ("config.output.levels={0.5,2}", "/config/output/levels/1"),
        ("config.output.leads={0}", "/config/output/leads/0"),
        ("config.http=null", "missing property 'http'"),
        ("kafka.sasl=null", "missing property 'sasl'"),
        ("autoscaling=null", "missing property 'autoscaling'"),
        ("serviceMonitor=null", "missing property 'serviceMonitor'"),
        ("prometheusRule=null", "missing property 'prometheusRule'"),
        ("training=null", "missing property 'training'"),
        ("training.schedule=@sometimes", "schedule"),
    ],
)
def test_a_value_that_cannot_be_is_refused(setting, where):
    assert where in refusal(setting)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["config.kafka.bootstrap_servers="], "config.kafka.bootstrap_servers: not set"),
        (["config.input.topics=null"], "config.input.topics: not set"),
        (["model.source="], "model.source: not set"),
        (["model.path="], "model.path: not set, and model.source image needs it"),
        (["model.path=model.onnx"], "absolute path"),
        (["model.source=http", "model.http.url=http://x/m"], "model.sha256: not set, and model.source http needs it"),
        (["model.source=s3"], "model.s3.bucket: not set"),
        (["model.source=configMap"], "model.configMap.name: not set"),
        (["model.source=persistentVolumeClaim"], "model.persistentVolumeClaim.claimName: not set"),
        (["config.model.path=/m"], "config.model.path: the chart sets it"),
        (["config.kafka.group_instance_id=a"], "config.kafka.group_instance_id: found one name for all pods"),
        (["config.http.port=0"], "the probes need one"),
        (["config.http.host=127.0.0.1"], "config.http.host: found 127.0.0.1, where no probe reaches it"),
        (
            ["model.source=http", "model.http.url=https://me:secret@x/m", f"model.sha256={'0' * 64}"],
            "model.http.url: found a user's name or password in it",
        ),
        (
            ["kafka.tls.enabled=true", r"config.kafka.options.security\.protocol=PLAINTEXT"],
            "config.kafka.options.security.protocol: found beside kafka.sasl or kafka.tls",
        ),
        (
            ["extraEnv[0].name=STREAMER_KAFKA__OPTIONS__SASL_PLAIN_PASSWORD", "extraEnv[0].value=hunter2"],
            "STREAMER_KAFKA__OPTIONS__SASL_PLAIN_PASSWORD is a secret",
        ),
        (
            ["extraEnv[0].name=STREAMER_KAFKA__OPTIONS__SSL__KEY__PEM", "extraEnv[0].value=hunter2"],
            "STREAMER_KAFKA__OPTIONS__SSL__KEY__PEM is a secret",
        ),
        (
            ["extraEnv[0].name=STREAMER_KAFKA__OPTIONS", 'extraEnv[0].value=\\{"sasl.password": "hunter2"\\}'],
            "STREAMER_KAFKA__OPTIONS is a secret",
        ),
        ([r"commonLabels.app\.kubernetes\.io/name=x"], "commonLabels: found app.kubernetes.io/name"),
        ([r"podLabels.app\.kubernetes\.io/component=x"], "podLabels: found app.kubernetes.io/component"),
        (
            ["networkPolicy.enabled=true", "config.kafka.bootstrap_servers=a:9092\\,b:9093"],
            "networkPolicy.kafkaPorts: b:9093 of config.kafka.bootstrap_servers is not among them; add 9093",
        ),
        (
            [
                "networkPolicy.enabled=true",
                "model.source=http",
                "model.http.url=http://store/m",
                f"model.sha256={'0' * 64}",
            ],
            "networkPolicy.modelPorts: 80 is not among them",
        ),
        (
            ["config.kafka.bootstrap_servers=a:9092\\,kafka1"],
            'config.kafka.bootstrap_servers: found "kafka1", expected host:port',
        ),
        (["kafka.sasl.enabled=true"], "kafka.sasl.existingSecret: not set"),
        (["kafka.tls.clientSecret.name=x"], "kafka.tls.clientSecret: found without kafka.tls.enabled"),
        (["kafka.tls.caSecret.name=x"], "kafka.tls.caSecret: found without kafka.tls.enabled"),
        (["autoscaling.enabled=true"], "autoscaling.maxReplicas: found 0, below minReplicas 1"),
        (["training.enabled=true"], "training.volumeClaim: not set"),
        (["training.enabled=true", "training.volumeClaim=x"], "training.config: empty"),
    ],
)
def test_what_is_missing_or_contradicts_is_refused_with_the_remedy(settings, message):
    assert message in refusal(*settings)


@pytest.mark.parametrize(
    "option",
    ["sasl_plain_password", r"sasl\.password", "sasl_plain_username", r"ssl\.key\.pem", r"sasl\.oauthbearer\.config"],
)
def test_a_secret_among_the_settings_is_refused_and_not_shown(option):
    said = refusal(f"config.kafka.options.{option}=hunter2")
    assert "a secret would be readable in a ConfigMap" in said
    assert "hunter2" not in said


def test_without_values_the_first_thing_missing_is_said():
    assert "config.kafka.bootstrap_servers: not set; name your brokers" in refusal(values=None)
