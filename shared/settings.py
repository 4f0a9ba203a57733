"""Every setting: name, default and help in one place; the only module that reads the environment."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import quote

from shared.errors import SettingsError
from shared.settings_rules import LOOPBACK, RABBIT_SCHEME, blob_key, contradictions

ROOT = Path(__file__).parents[1]
UNIX_SOCKET_LIMIT = 107  # bytes of path that Linux's sockaddr_un holds


def setting(
    default: object,
    help: str,
    *,
    env: str = "",
    low: float | None = None,
    high: float | None = None,
    secret: bool = False,
) -> Any:
    """A field of Settings; its variable is MEDQ_<NAME> unless `env` says otherwise."""
    return field(
        default=default,
        repr=not secret,  # settings that are logged must not carry passwords
        metadata={"help": help, "env": env, "low": low, "high": high, "secret": secret},
    )


@dataclass(frozen=True)
class Settings:
    """Built once by an entry point and passed down."""

    # Where things are
    data_dir: str = setting("var", "Folder of the embedded database, broker, blobs and logs")
    database_url: str = setting(
        "",
        "SQLAlchemy URL, such as mysql+pymysql://user:password@host/medq; empty: SQLite in the data folder",
        secret=True,
    )
    broker_url: str = setting(
        "",
        "What carries the queues: a Redis URL, such as redis://host:6379/0, or RabbitMQ's, such as amqp://user:password@host:5672//; empty: the Redis that `make run` starts in the data folder",
        secret=True,
    )
    redis_url: str = setting(
        "",
        "Redis URL for hints, limits and figures, where RabbitMQ carries the queues; empty: MEDQ_BROKER_URL if that is Redis, else the Redis that `make run` starts",
        secret=True,
    )
    storage_url: str = setting(
        "", "Folder of the blobs, or s3://bucket/prefix; empty: `blobs` in the data folder"
    )
    blob_keys: str = setting(
        "",
        "Keys of 32 bytes in base64, separated by commas: blobs are encrypted with the first, and read with all; empty: not encrypted",
        secret=True,
    )
    plain_blobs: Literal["refuse", "read"] = setting(
        "refuse", "With MEDQ_BLOB_KEYS, what becomes of blobs that were stored before, unencrypted"
    )
    models_dir: str = setting("workers/models", "Folder with one folder of card and weights per head")

    # API
    host: str = setting("127.0.0.1", "Address that the API listens on")
    port: int = setting(8000, "Port of the API", low=1, high=65535)
    flower_host: str = setting(
        "127.0.0.1", "Address that Flower listens on; beyond loopback it needs MEDQ_FLOWER_PASSWORD"
    )
    flower_port: int = setting(5555, "Port of Flower", low=1, high=65535)
    flower_password: str = setting(
        "", "Flower asks for the user medq and this password; empty, on loopback only: for none", secret=True
    )
    flower_read_only: Literal["auto", "yes", "no"] = setting(
        "auto", "Whether Flower only shows, and cannot stop or change workers; auto: beyond loopback"
    )
    hosts: str = setting(
        "localhost,127.0.0.1,[::1]", "Host names that requests may address, separated by commas"
    )
    auth: Literal["open", "keys"] = setting(
        "open", "open: no key is asked, which is allowed on loopback only; keys: every request needs one"
    )
    session_s: float = setting(
        12 * 3600.0, "A browser stays signed in for this long", low=60, high=90 * 24 * 3600
    )
    key_per_minute: int = setting(
        1200, "Requests a minute that a key without a limit of its own may make", low=1, high=1_000_000
    )
    webhook_secret: str = setting(
        "", "At least 32 characters from which webhooks are signed; empty: no webhooks are sent", secret=True
    )
    webhook_allow: str = setting(
        "",
        "Names, addresses and networks, separated by commas, that webhooks may reach though they are not public",
    )
    compat: Literal["off", "on"] = setting(
        "off", "Whether the paths of the systems that MedQ replaces are served, for clients written for them"
    )
    board_dir: str = setting(
        "", "Folder of a board's pictures, each named by its post's number, for `python -m api.dermqa`"
    )
    board_port: int = setting(5252, "Port of `python -m api.dermqa`, on loopback", low=1, high=65535)
    api_threads: int = setting(64, "Requests that the API serves at once", low=4, high=1024)
    event_heartbeat_s: float = setting(
        15.0, "An event stream that has nothing to say sends a comment this often", low=0.05, high=300
    )
    max_upload_bytes: int = setting(20 * 2**20, "Largest picture, in bytes", low=1024, high=2**31)
    max_pixels: int = setting(
        50_000_000, "Most pixels a picture may claim in its header", low=1, high=500_000_000
    )

    # Archives
    max_archive_bytes: int = setting(
        20 * 2**30, "Largest archive, in bytes, as it is sent", low=1024, high=2**42
    )
    max_entries: int = setting(100_000, "Most pictures in one archive", low=1, high=1_000_000)
    max_unpacked_bytes: int = setting(
        200 * 2**30, "Most bytes that an archive may unpack to", low=1024, high=2**44
    )
    max_ratio: int = setting(
        200, "Most times that an archive, or an entry, may unpack to its own size", low=2, high=100_000
    )
    archive_threads: int = setting(2, "Archives that an archive worker reads at once", low=1, high=64)
    archive_group: int = setting(256, "Entries of an archive that share a transaction", low=1, high=2_000)
    bulk_window: int = setting(
        4,
        "Messages of up to 64 of archives' jobs that are under way per pipeline; fewer than MEDQ_VISION_THREADS",
        low=1,
        high=255,
    )
    bulk_answers: int = setting(
        12,
        "Answers to archives' jobs that are under way; fewer than MEDQ_ANSWER_THREADS",
        low=1,
        high=511,
    )
    upload_keep_s: float = setting(
        24 * 3600.0, "An upload in pieces is forgotten when nothing arrives for this long", low=60, high=2**22
    )
    max_waiting: int = setting(
        10_000, "People's jobs that may wait; past it a submit is answered with 429", low=1, high=10_000_000
    )
    min_free_bytes: int = setting(
        2**30, "Nothing more is accepted when the blobs' folder has less space than this", low=0, high=2**50
    )
    max_messages: int = setting(20, "Messages that may be sent about one job", low=1, high=1_000)
    max_uploads: int = setting(
        64, "Uploads in pieces that an owner may have unfinished at once", low=1, high=10_000
    )

    # Life of a job
    keep_days: float = setting(
        0.0, "Jobs and batches are erased this many days after their end; 0: only by hand", low=0, high=36_500
    )
    lease_s: float = setting(
        30.0, "A claim is lost when its worker is silent for this long", low=1, high=3600
    )
    vision_limit_s: float = setting(
        120.0, "Longest time of one attempt at the vision stage", low=1, high=3600
    )
    answer_limit_s: float = setting(
        180.0, "Longest time of one attempt at the answer stage", low=1, high=3600
    )
    explain_limit_s: float = setting(
        600.0,
        "Longest time of one attempt at the explain stage, which waits for all others",
        low=1,
        high=3600,
    )
    max_attempts: int = setting(3, "Attempts at a stage before the job fails", low=1, high=100)
    retry_base_s: float = setting(2.0, "First pause before a retry; doubles, with jitter", low=0, high=600)
    redispatch_s: float = setting(
        30.0,
        "A queued job whose message seems lost is dispatched again after this; doubles",
        low=1,
        high=3600,
    )
    sweep_s: float = setting(2.0, "Pause between two rounds of the sweeper", low=0.05, high=60)
    drain_s: float = setting(
        8.0, "On SIGTERM a worker finishes what it can for this long, then returns the rest", low=0, high=600
    )

    # Vision
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "Where networks run; auto: CUDA if there is one")
    dtype: Literal["auto", "bfloat16", "float32"] = setting(
        "auto",
        "Arithmetic of the networks; auto: bfloat16 where the device has it and the card shows equal findings; bfloat16 is refused where it does not",
    )
    runtime: Literal["auto", "torch"] = setting(
        "auto",
        "What computes networks; auto: OpenVINO on a CPU in float32 where it finds what torch finds, else torch",
    )
    vision_threads: int = setting(96, "Messages that a vision worker holds at once", low=1, high=256)
    explain_threads: int = setting(2, "Explanations that a vision worker makes at once", low=1, high=64)
    torch_threads: int = setting(
        0, "Threads of one forward pass on the CPU; 0: one per core", low=0, high=256
    )

    # Answers
    answers: Literal["reference", "openai", "azure"] = setting(
        "reference",
        "reference: answers quote the built-in texts, and nothing leaves the machine; "
        "openai: any OpenAI-compatible server; azure: Azure OpenAI, with OPENAI_BASE_URL as its endpoint",
    )
    openai_api_key: str = setting("", "Key of the language-model server", env="OPENAI_API_KEY", secret=True)
    openai_base_url: str = setting(
        "https://api.openai.com/v1", "Address of the language-model server", env="OPENAI_BASE_URL"
    )
    openai_model: str = setting("gpt-4.1-mini", "Model name sent to that server")
    openai_timeout_s: float = setting(120.0, "Longest time of one language-model call", low=1, high=3600)
    openai_first_token_s: float = setting(
        60.0, "Longest silence of that server, before its first token and between two", low=1, high=3600
    )
    openai_extra: str = setting(
        "", "JSON object that goes into each request, such as temperature, top_p, top_k and max_tokens"
    )
    openai_calls_a_minute: int = setting(
        0, "Calls a minute, over all workers; 0: no limit", low=0, high=1_000_000
    )
    openai_tokens_a_minute: int = setting(
        0, "Tokens a minute, guessed before each call, over all workers; 0: no limit", low=0, high=2**31
    )
    owner_tokens_a_month: int = setting(
        0,
        "Tokens that language models may take for one owner's jobs in a month; then the reference answers; 0: no limit",
        low=0,
        high=2**50,
    )
    prices: str = setting(
        "",
        'JSON object of models\' prices per million tokens, in and out, such as {"gpt-4.1-mini": [0.4, 1.6]}',
    )
    azure_api_version: str = setting("2024-10-21", "Version of Azure's interface", env="OPENAI_API_VERSION")
    fallback_base_url: str = setting(
        "", "Address of a second OpenAI-compatible server, asked when the first fails; empty: none"
    )
    fallback_api_key: str = setting("", "Key of the second server", secret=True)
    fallback_model: str = setting("", "Model name sent to the second server")
    answer_wait_s: float = setting(
        600.0,
        "A job waits this long for language models that are away, then the reference answers",
        low=0,
        high=2**22,
    )
    answer_threads: int = setting(16, "Answers that an answer worker writes at once", low=1, high=512)
    embeddings: Literal["on", "off"] = setting(
        "on", "Whether English questions find texts by their meaning, too; off: by their words alone"
    )

    # Traces
    otel_endpoint: str = setting(
        "",
        "Address of an OpenTelemetry collector that speaks OTLP over HTTP, such as http://collector:4318; empty: no traces",
        env="OTEL_EXPORTER_OTLP_ENDPOINT",
    )
    otel_service_name: str = setting("medq", "Name under which traces are told", env="OTEL_SERVICE_NAME")

    # Logs
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = setting("INFO", "Least severe log lines")
    log_format: Literal["json", "console"] = setting("json", "json: one object per line; console: for people")

    @property
    def data_path(self) -> Path:
        return _rooted(self.data_dir)

    @property
    def models_path(self) -> Path:
        return _rooted(self.models_dir)

    @property
    def board_path(self) -> Path:
        return _rooted(self.board_dir)

    @property
    def storage_location(self) -> str:
        return self.storage_url or str(self.data_path / "blobs")

    @property
    def sealing_keys(self) -> tuple[bytes, ...]:
        """Raises: ValueError"""
        return tuple(blob_key(text) for text in self.blob_keys.split(",")) if self.blob_keys else ()

    @property
    def sqlalchemy_url(self) -> str:
        return self.database_url or f"sqlite:///{quote(str(self.data_path / 'medq.sqlite3'))}"

    @property
    def durable(self) -> bool:
        """Whether a commit survives a power cut. The embedded SQLite's may not, so its blobs need not either."""
        return not self.sqlalchemy_url.startswith("sqlite")

    @property
    def redis_socket(self) -> Path:
        """The embedded broker's socket; a long data folder moves it to the folder for temporary files."""
        path = self.data_path / "redis.sock"
        if len(os.fsencode(path)) <= UNIX_SOCKET_LIMIT:
            return path
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"medq-{digest}.sock"

    @property
    def rabbit(self) -> bool:
        """Whether RabbitMQ carries the queues."""
        return self.broker_url.startswith(RABBIT_SCHEME)

    @property
    def given_redis_url(self) -> str:
        """Of a Redis that is not ours to start; empty when there is none."""
        return self.redis_url or ("" if self.rabbit else self.broker_url)

    @property
    def redis_location(self) -> str:
        """For redis-py."""
        return self.given_redis_url or f"unix://{quote(str(self.redis_socket))}"

    @property
    def celery_broker_url(self) -> str:
        """For Celery and Flower, which spell Unix sockets differently."""
        return (self.broker_url or self.redis_location).replace("unix://", "redis+socket://", 1)

    @property
    def flower_only_shows(self) -> bool:
        return self.flower_read_only == "yes" or (
            self.flower_read_only == "auto" and self.flower_host not in LOOPBACK
        )

    @property
    def allowed_hosts(self) -> frozenset[str]:
        return frozenset(name.strip().lower() for name in self.hosts.split(",") if name.strip())

    def stage_limit_s(self, stage: str) -> float:
        limits = {"answer": self.answer_limit_s, "explain": self.explain_limit_s}
        return limits.get(stage, self.vision_limit_s)

    def as_environment(self) -> dict[str, str]:
        """The variables that make from_env() build these settings again, in a child process."""
        return {
            variable(item): str(getattr(self, item.name))
            for item in fields(self)
            if getattr(self, item.name) != item.default
        }

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read every setting; an empty variable counts as unset.

        Raises: SettingsError that names every bad value, and every MEDQ_ variable that is no setting
        """
        source = os.environ if environ is None else environ
        known = {variable(item): item for item in fields(cls)}
        values: dict[str, Any] = {}
        wrong = []
        for name, item in known.items():
            if not source.get(name):
                continue
            try:
                values[item.name] = _parse(source[name], item)
            except ValueError as error:
                wrong.append(f"{name}: {error}")
        wrong += [
            f"{name}: there is no such setting"
            for name in sorted(source)
            if name.startswith("MEDQ_") and name not in known and name not in CLIENT_VARIABLES
        ]
        settings = cls(**values)
        wrong += contradictions(settings)
        if wrong:
            raise SettingsError("\n".join(wrong))
        return settings


# The command line's own; they stand in the same environment.
CLIENT_VARIABLES = {
    "MEDQ_URL": "Address of the server that the command line talks to, http://127.0.0.1:8000 by default",
    "MEDQ_KEY": "Key that the command line sends",
}


def client_settings() -> tuple[str, str]:
    """MEDQ_URL and MEDQ_KEY for the command line, which has no server's settings."""
    return os.environ.get("MEDQ_URL") or "http://127.0.0.1:8000", os.environ.get("MEDQ_KEY") or ""


def environment_with(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with some variables changed, for a child process."""
    return {**os.environ, **variables}


def variable(item: "Field[Any]") -> str:
    """The environment variable of a setting."""
    return item.metadata["env"] or f"MEDQ_{item.name.upper()}"


def _parse(text: str, item: "Field[Any]") -> object:
    if get_origin(item.type) is Literal:
        if text not in get_args(item.type):
            raise ValueError(f"{text!r} is not one of {', '.join(get_args(item.type))}")
        return text
    if item.type is str:
        return text
    try:
        number = int(text) if item.type is int else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    low, high = item.metadata["low"], item.metadata["high"]
    if not low <= number <= high:
        raise ValueError(f"{text} is not between {low} and {high}")
    return number


def _rooted(path: str) -> Path:
    """Relative folders are the repository's, whatever folder a process was started in."""
    return (ROOT / path).resolve()


def documented() -> list[tuple[str, str, str]]:
    """(variable, default, help) of every setting, for the README and its test."""
    rows = []
    for item in fields(Settings):
        default = "" if item.default is MISSING else str(item.default)
        rows.append((variable(item), default, item.metadata["help"]))
    return rows + [(name, "", text) for name, text in CLIENT_VARIABLES.items()]
