"""deploy/compose.yaml, which cannot be started where the tests run: its form, and everything that it names."""

import json
import re
import subprocess
from typing import Any

import compose_spec
import yaml

from shared.figures import ROLES
from shared.settings import ROOT, Settings
from tests.servers import needs

FILE = ROOT / "deploy/compose.yaml"
TEXT = FILE.read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = dict(
    line.split("=", 1)
    for line in (ROOT / "deploy/compose.env.example").read_text().splitlines()
    if line and not line.startswith("#")
)
OURS = {name: service for name, service in SERVICES.items() if str(service["image"]).startswith("medq-")}


def filled(text: str, **values: str) -> str:
    """With variables put in as compose puts them in."""
    known = EXAMPLE | values

    def one(match: "re.Match[str]") -> str:
        return known.get(match["name"]) or match["default"] or ""

    pattern = r"\$\{(?P<name>[A-Z_]+)(?::-(?P<default>[^}]*)|:\?[^}]*)?\}"
    return re.sub(pattern, one, text).replace("$$", "$")


def test_it_is_a_compose_file() -> None:
    """Every key is one of the specification's; YAML's merges are done, which the package does not do everywhere."""
    compose_spec.PyCompose.from_json(json.dumps(COMPOSE))
    compose_spec.ComposeSpecification.model_validate(COMPOSE)


def test_variables_are_those_of_the_example() -> None:
    named = set(re.findall(r"\$\{([A-Z_]+)", TEXT))
    assert named == set(EXAMPLE) - {"COMPOSE_PROFILES"}  # which compose reads itself
    assert EXAMPLE["COMPOSE_PROFILES"] in {
        profile for one in SERVICES.values() for profile in one.get("profiles", [])
    }


def test_the_settings_are_accepted_as_they_stand() -> None:
    secrets = {
        "DATABASE_PASSWORD": "abc123",
        "WEBHOOK_SECRET": "0123456789abcdef" * 2,
        "FLOWER_PASSWORD": "a" * 16,
    }
    for name, service in OURS.items():
        environment = {key: filled(str(value), **secrets) for key, value in service["environment"].items()}
        settings = Settings.from_env(environment)
        if name == "flower":
            assert settings.flower_only_shows
        else:
            assert settings.allowed_hosts >= {"api", "127.0.0.1", "medq.example.org"}
    assert Settings.from_env({"OPENAI_API_KEY": "none", "MEDQ_ANSWERS": EXAMPLE["ANSWERS"]})


def test_blobs_on_s3_change_only_those_that_use_them() -> None:
    changed: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.s3.yaml").read_text(encoding="utf-8"))
    compose_spec.ComposeSpecification.model_validate(changed)
    workers = {name for name in OURS if name.startswith("vision")} | {"archive", "sweeper"}
    assert set(changed["services"]) == workers | {"api"}
    assert all(set(one["networks"]) <= set(COMPOSE["networks"]) for one in changed["services"].values())
    assert "deploy/storage.env" in (ROOT / ".gitignore").read_text().split()


def test_rabbitmq_changes_where_the_queues_are_for_all_that_use_them() -> None:
    text = (ROOT / "deploy/compose.rabbitmq.yaml").read_text(encoding="utf-8")
    changed: dict[str, Any] = yaml.safe_load(text)
    compose_spec.ComposeSpecification.model_validate(changed)
    services: dict[str, dict[str, Any]] = changed["services"]
    assert set(services) == set(OURS) - {"migrate"} | {"rabbitmq"}
    for name in set(services) - {"rabbitmq"}:
        environment = OURS[name]["environment"] | services[name]["environment"]
        urls = {key: filled(str(value)) for key, value in environment.items() if key.endswith("_URL")}
        settings = Settings(broker_url=urls["MEDQ_BROKER_URL"], redis_url=urls["MEDQ_REDIS_URL"])
        assert (settings.rabbit, settings.given_redis_url) == (True, "redis://redis:6379/0")


def test_each_worker_is_one_that_there_is() -> None:
    roles = {tuple(one["command"]) for one in OURS.values() if str(one["image"]).startswith("medq-worker")}
    assert roles == {(role,) for role in ROLES}


def test_each_image_of_ours_is_built_by_somebody() -> None:
    dockerfile = (ROOT / "deploy/images/Dockerfile").read_text()
    targets = set(re.findall(r"^FROM \S+ AS (\w+)$", dockerfile, re.MULTILINE))
    built = {one["image"]: one["build"] for one in OURS.values() if "build" in one}
    assert {one["image"] for one in OURS.values()} == set(built)
    for build in built.values():
        assert build["target"] in targets
        assert (FILE.parent / build["context"] / build["dockerfile"]).is_file()
        assert all(f"ARG {name}" in dockerfile for name in build.get("args", {}))


def test_every_file_that_is_mounted_exists() -> None:
    made = {"./secrets"}  # whoever makes Prometheus's key makes it
    mounted = {
        volume.split(":")[0]
        for one in SERVICES.values()
        for volume in one.get("volumes", [])
        if volume[0] == "."
    }
    assert {"./Caddyfile", "./monitoring"} <= mounted
    assert not [path for path in mounted - made if not (FILE.parent / path).exists()]
    named = {volume.split(":")[0] for one in SERVICES.values() for volume in one.get("volumes", [])} - mounted
    assert named == set(COMPOSE["volumes"])


def test_secrets_are_ignored_by_git() -> None:
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {"deploy/.env", "deploy/secrets/"} <= set(ignored)
    assert not [
        value for name, value in EXAMPLE.items() if name.endswith(("PASSWORD", "SECRET", "KEY")) and value
    ]


def test_only_the_front_is_reached_from_outside() -> None:
    assert [name for name, one in SERVICES.items() if one.get("ports")] == ["caddy"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}


def test_processes_of_ours_have_no_more_rights_than_they_need() -> None:
    for name, one in OURS.items():
        assert (one["read_only"], one["cap_drop"], one["init"]) == (True, ["ALL"], True), name


def test_caddy_accepts_its_file_and_lets_the_largest_archive_in() -> None:
    caddy, path = needs("caddy", "caddy"), ROOT / "deploy/Caddyfile"
    done = subprocess.run(
        [caddy, "validate", "--config", path, "--adapter", "caddyfile"],
        env={"DOMAIN": "medq.example.org", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (most,) = re.findall(r"max_size (\d+)GB", path.read_text())
    assert int(most) * 10**9 > Settings().max_archive_bytes
    served = set(re.findall(r"reverse_proxy (\w+):(\d+)", path.read_text()))
    assert {name for name, _ in served} <= set(SERVICES)
