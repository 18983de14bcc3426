"""Every option once: type, default, unit, meaning and price.

YAML file  <  environment (STREAMER_KAFKA__GROUP_ID)  <  flags (--kafka.group_id)
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from streamer.settings.kinds import (
    ALWAYS_TEXT,
    Distinct,
    FieldPath,
    FitsModel,
    Number,
    OptionValue,
    Section,
    Servers,
    Start,
    Topic,
    TopicOrNone,
    Unit,
    conflict,
    path_or,
)

OWN_SETTING = ("bootstrap_servers", "group_id", "group_instance_id")  # not to be given again in kafka.options


class ModelSettings(Section):
    path: str = Field(default="", description="The model: an ONNX file that keeps the model contract.")
    providers: Annotated[tuple[str, ...], Distinct] = Field(
        default=("CPUExecutionProvider",),
        min_length=1,
        description="onnxruntime's execution providers, in order of preference. With CUDAExecutionProvider or "
        "TensorrtExecutionProvider first, states are held in the device's memory. One that is not available stops "
        "the daemon.",
    )
    cpu_fallback: bool = Field(
        default=False,
        description="Serve on the CPU, with a warning in the log, where a provider is not available, instead of "
        "stopping. `streamer_model_info` says which it is; a load that needs the device will then fall behind.",
    )
    threads: Annotated[int, Number, Unit("threads")] = Field(
        default=1,
        ge=1,
        le=256,
        description="Threads inside one model call. More than 1 helps only large networks: small ones lose more "
        "by handing work over, and one process per core scales better.",
    )


class InputFields(Section):
    """Where an event's parts are found: dotted paths into the JSON, or the record's key or timestamp."""

    stream: Annotated[str, path_or("$key")] = Field(
        default="stream", description="The stream's id: a path, or `$key` for the record's key."
    )
    ts: Annotated[str, path_or("$timestamp")] = Field(
        default="ts", description="The event's time: a path, or `$timestamp` for the record's Kafka timestamp."
    )
    ts_unit: Literal["ms", "s", "iso8601"] = Field(
        default="ms",
        description="Unit of the event's time. `ms` also reads ISO 8601 text; `s` may have a fraction.",
    )
    value: FieldPath = Field(default="value", description="The observed value.")
    covariates: dict[str, FieldPath] = Field(
        default={}, description="Name of a covariate to its path. One left out is at `covariates.NAME`."
    )
    static: dict[str, FieldPath] = Field(
        default={}, description="Name of a static category to its path. One left out is at `static.NAME`."
    )

    @model_validator(mode="after")
    def _consistent(self) -> "InputFields":
        if self.ts == "$timestamp" and self.ts_unit != "ms":
            raise conflict(
                "input.fields.ts_unit",
                f"found {self.ts_unit!r}, but a record's timestamp ($timestamp) is in ms always; remove it",
            )
        if len({self.stream, self.ts, self.value}) < 3:
            raise conflict(
                "input.fields",
                f"stream {self.stream!r}, ts {self.ts!r} and value {self.value!r} share a path; give each its own",
            )
        return self


class InputSettings(Section):
    topics: Annotated[tuple[Topic, ...], Distinct] = Field(
        default=(), description="Topics to read events from. A stream is one id in one partition of one topic."
    )
    fields: InputFields = InputFields()
    start: Start = Field(
        default="earliest",
        description="Where a group without committed offsets begins: `earliest`, `latest`, or an ISO 8601 time. "
        "`latest` skips all that is there already, and every stream starts cold.",
    )
    slot: Literal["floor", "nearest"] = Field(
        default="floor",
        description="The slot of a time between two: the one it lies in, or the nearest. `nearest` suits clocks "
        "that jitter around the grid; an event may then belong to a slot that begins after it.",
    )
    max_gap_steps: Annotated[int, Number, Unit("steps")] = Field(
        default=168,
        ge=0,
        le=1_000_000,
        description="Longest run of missing steps fed to the model before its state starts fresh. Each missing step "
        "costs one step of the model: a gap of a million takes seconds, in which nothing else is forecast.",
    )
    max_abs: Annotated[float, Number, FitsModel] = Field(
        default=1e15,
        gt=0,
        description="Largest magnitude of a value; beyond it an event is rejected as `out_of_range`. "
        "A wild value below it distorts its stream's forecasts until the model has forgotten it.",
    )
    max_future_seconds: Annotated[float | None, Number, Unit("seconds")] = Field(
        default=None,
        ge=0,
        description="How far an event may be ahead of its record's Kafka timestamp; beyond it, it is rejected as "
        "`future`. Left out: one step and an hour. Much more lets one wrong clock close a stream to its "
        "true events, which are then `late`.",
    )
    max_record_bytes: Annotated[int, Number, Unit("bytes")] = Field(
        default=1 << 20,
        ge=1,
        description="Largest record that is decoded; a larger one is rejected as `too_large`. "
        "Time and memory of decoding grow with it.",
    )

    @property
    def start_ms(self) -> int | None:
        """`start` as UTC epoch milliseconds; None for `earliest` and `latest`."""
        if self.start in ("earliest", "latest"):
            return None
        return round(datetime.fromisoformat(self.start).timestamp() * 1000)


class OutputSettings(Section):
    topic: Topic = Field(default="forecasts", description="Topic the forecasts are published to.")
    dead_letter_topic: TopicOrNone = Field(
        default="",
        description="Topic for records that cannot be used; each goes to its own partition number, "
        "modulo the partitions there are. Empty: they are counted only, and lost.",
    )
    compression: Literal["none", "gzip", "lz4", "zstd"] = Field(
        default="lz4",
        description="Compression of what is published. `zstd` and `gzip` make it smaller and cost more CPU; "
        "`none` costs network and disk.",
    )
    every: Annotated[int, Number, Unit("steps")] = Field(
        default=1,
        ge=1,
        le=1_000_000,
        description="Publish a stream's forecast once in so many steps, counted from the epoch; every event still "
        "advances its stream. Where a period's first step has no event, its next one stands in. Fewer bytes of "
        "forecasts allow for fewer snapshots, and so for longer replays at restarts: see `state.snapshot_share`.",
    )
    leads: Annotated[tuple[Annotated[int, Field(ge=1), Number], ...], Distinct] = Field(
        default=(),
        description="Leads to publish; empty: all that the model has, 1 to its horizon. All are computed; see "
        "`state.snapshot_share` for what fewer bytes mean for restarts.",
    )
    levels: Annotated[tuple[Annotated[float, Field(gt=0, lt=1), Number], ...], Distinct] = Field(
        default=(),
        description="Levels to publish; empty: all that the model has. All are computed; see `state.snapshot_share` "
        "for what fewer bytes mean for restarts.",
    )
    digits: Annotated[int, Number, Unit("digits")] = Field(
        default=6,
        ge=0,
        le=9,
        description="Significant digits of a forecast's largest number; its other numbers end at the same decimal. "
        "More are kept where they would be too coarse for a thousandth of the forecast's range. Numbers that are not "
        "published count, too: a lead or a level alone is published as it is among the others. Each makes the topic "
        "a tenth larger. 0: every number in full, as float32; encoding is then several times slower.",
    )


class KafkaSettings(Section):
    client: Literal["kafka-python", "confluent"] = Field(
        default="kafka-python",
        description="Client library: `kafka-python`, which is always there, or `confluent` (librdkafka: the image has "
        "it, in a clone `pip install '.[fast]'`), which takes less than half the CPU.",
    )
    bootstrap_servers: Servers = Field(
        default="127.0.0.1:9092", description="Brokers to begin with, host:port, comma-separated."
    )
    group_id: str = Field(
        default="",
        description="Consumer group. Its processes share the partitions; another name starts over from `input.start`.",
    )
    group_instance_id: str = Field(
        default="",
        description="Fixed name of this member. Its partitions wait for it during a restart, so nobody rebalances, "
        "and nobody serves them if it stays away, until the session times out. Empty: a dynamic member.",
    )
    options: dict[str, OptionValue] = Field(
        default={},
        description="Passed on to the client library under its own names (TLS, SASL, …); `confluent` takes "
        "kafka-python's names for them, too. Values are treated as secrets and never shown.",
    )
    connect_timeout_seconds: Annotated[float, Number, Unit("seconds")] = Field(
        default=15.0,
        gt=0,
        description="How long a start may wait for a broker to answer before the daemon gives up. "
        "Longer rides out a slow broker, and reports a wrong address later.",
    )

    @model_validator(mode="after")
    def _options_are_usable(self) -> "KafkaSettings":
        for key, secret in self.options.items():
            own = key.replace(".", "_")
            if own in OWN_SETTING:
                raise conflict(f"kafka.options.{key}", f"this is a setting of its own; set kafka.{own} instead")
            if any(t in key for t in ALWAYS_TEXT) and not isinstance(secret.get_secret_value(), str):
                raise conflict(f"kafka.options.{key}", "found *** which is not text; put it in quotes")
        return self

    def client_options(self) -> dict[str, str | int | float | bool]:
        """`options` in the clear, for the client and nothing else."""
        return {key: secret.get_secret_value() for key, secret in self.options.items()}


class StateSettings(Section):
    max_streams: Annotated[int, Number, Unit("streams")] = Field(
        default=1_000_000,
        ge=1,
        le=1_000_000_000,
        description="Most streams held in memory; a new one beyond is rejected as `too_many_streams`. Address space "
        "is reserved for all at the start; a stream takes memory when it comes.",
    )
    idle_seconds: Annotated[float, Number, Unit("seconds")] = Field(
        default=0.0,
        ge=0,
        description="Silence, measured by the event times of its partition, after which a stream is forgotten; its "
        "next event begins it anew. 0: never. On a regular grid at least `input.max_gap_steps` steps.",
    )
    snapshot_interval_seconds: Annotated[float, Number, Unit("seconds")] = Field(
        default=10.0,
        gt=0,
        description="How long after a change a stream's state is written to the changelog. Longer ones write less, and "
        "replay more of the input after a restart.",
    )
    snapshot_share: Annotated[float, Number] = Field(
        default=0.2,
        gt=0,
        le=1,
        description="Share of the bytes written that snapshots may take; beyond it they wait, up to "
        "`max_replay_events` or a day. Raise it where `output.every`, `leads` or `levels` leave few bytes of "
        "forecasts.",
    )
    max_replay_events: Annotated[int, Number, Unit("events")] = Field(
        default=2_000_000,
        ge=1,
        description="Most events of one partition that a restart has to replay: snapshots are then written whatever "
        "their share.",
    )
    warm_from_input_steps: Annotated[int, Number, Unit("steps")] = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Streams whose snapshot is of no use, another model's above all, are built anew from the input: "
        "from so many records for each stream of the partition before its position. Each costs the model a step before "
        "the partition is served. 0: they start fresh.",
    )


class DeliverySettings(Section):
    commit_interval_seconds: Annotated[float, Number, Unit("seconds")] = Field(
        default=0.1,
        gt=0,
        description="Time between commits, and what a forecast waits for its own at most while brokers are quick: "
        "without a backlog a commit begins earlier by what the last one took. Longer ones cost delay, shorter ones "
        "throughput.",
    )


class HttpSettings(Section):
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address that `/metrics`, `/healthz` and `/readyz` listen on. `0.0.0.0` lets other machines in; "
        "there is no authentication.",
    )
    port: Annotated[int, Number] = Field(default=9108, ge=0, le=65535, description="Port of the same; 0: off.")


class Settings(Section):
    """All settings of the daemon; frozen, so they hold for the life of the process."""

    model: ModelSettings = ModelSettings()
    input: InputSettings = InputSettings()
    output: OutputSettings = OutputSettings()
    kafka: KafkaSettings = KafkaSettings()
    state: StateSettings = StateSettings()
    delivery: DeliverySettings = DeliverySettings()
    http: HttpSettings = HttpSettings()

    @model_validator(mode="after")
    def _topics_differ(self) -> "Settings":
        out, dead = self.output.topic, self.output.dead_letter_topic
        if out in self.input.topics:
            raise conflict("output.topic", f"found {out!r}, which input.topics reads; choose another topic")
        if dead and (dead == out or dead in self.input.topics):
            other = "output.topic" if dead == out else "input.topics"
            raise conflict(
                "output.dead_letter_topic",
                f"found {dead!r}, which is in {other} too; choose another topic, or leave it empty to turn it off",
            )
        return self
