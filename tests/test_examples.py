"""README's examples, run as they stand: curl, Python, asyncio and JavaScript, against the real app."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright._impl._driver import compute_driver_executable

from api.client import Client
from api.sources import FileSource
from shared.settings import ROOT, Settings
from tests.api.batching import pictures, zipped
from tests.api.live import Live, models, picture
from tests.api.receiver import receiving
from tests.servers import needs

README = (ROOT / "README.md").read_text(encoding="utf-8")
URL = "http://127.0.0.1:8000"
CURLS = [line for line in re.findall(r"^curl .+$", README, re.MULTILINE) if "example.org/v1" not in line]

sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@dataclass
class Place:
    """A server at work, and a folder with what the examples name."""

    live: Live
    folder: Path
    hook: str

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def here(self, text: str) -> str:
        """With this server's address, and with ids of what is made for the purpose."""
        text = text.replace("https://example.org/hook", self.hook).replace(URL, self.live.url)
        with Client(self.live.url) as client:
            for before, name, make in (
                ("upload_id=", "ID", self._upload),
                ("/batches/", "BATCH", self._batch),
                ("/jobs/", "ID", self._job),
            ):
                if before + name in text:
                    text = text.replace(before + name, before + make(client))
        return text

    def _job(self, client: Client) -> str:
        return client.wait(client.submit(self.folder / "mole.jpg", webhook_url=self.hook).id).id

    def _batch(self, client: Client) -> str:
        return client.wait_batch(client.batch(self.folder / "study.zip").id).id

    def _upload(self, client: Client) -> str:
        """An archive that has arrived in pieces, and is no batch yet."""
        return client.upload(FileSource(self.folder / "study.zip"))


@pytest.fixture
def place(settings: Callable[..., Settings], tmp_path: Path) -> Iterator[Place]:
    allowed = {"webhook_secret": "0123456789abcdef" * 2, "webhook_allow": "127.0.0.1"}
    picture(tmp_path / "mole.jpg")
    (tmp_path / "study.zip").write_bytes(zipped(pictures(2)))
    with receiving() as receiver:
        live = Live(settings(models_dir=str(models(tmp_path / "models")), **allowed))
        live.work()
        yield Place(live, tmp_path, receiver.url)
        live.close()


def test_there_is_an_example_of_each_kind() -> None:
    assert len(CURLS) >= 12
    assert len(examples("python")) == 2
    assert len(examples("javascript")) == 1


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@sqlite
@pytest.mark.parametrize("line", CURLS)
def test_curl(place: Place, line: str) -> None:
    needs("curl", "curl")
    answer = place.run("bash", "-c", place.here(line).replace("curl ", "curl -sS --fail-with-body ", 1))
    if "-OJ" in line:
        (saved,) = place.folder.glob("*.fhir.json")
        answer = saved.read_text()
    if "-N" in line:
        assert re.findall(r"^event: (\w+)", answer, re.MULTILINE)[-1] == "completed"
    elif "results.csv" in line:
        assert len(answer.splitlines()) == 3
    else:
        assert json.loads(answer)


@sqlite
@pytest.mark.parametrize("number", [0, 1])
def test_python(
    place: Place, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place.folder)
    with ThreadPoolExecutor(1) as thread:  # Playwright leaves the main thread with a loop that runs
        thread.submit(exec, place.here(examples("python")[number]), {"__name__": "__main__"}).result()
    assert "Melanoma" in capsys.readouterr().out


@sqlite
def test_javascript(place: Place) -> None:
    """In the Node that Playwright brings along."""
    (place.folder / "example.mjs").write_text(place.here(examples("javascript")[0]))
    said = place.run(compute_driver_executable()[0], "example.mjs")
    assert "Melanoma 0.62" in said
    assert "The picture suggests melanoma" in said
