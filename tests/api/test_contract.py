"""A short form of `make fuzz`: requests made from the OpenAPI document, and every answer held against it."""

from pathlib import Path

from tests.fuzzing import fuzz, served
from tests.servers import Redis


def test_what_the_document_says_is_what_the_server_does(tmp_path: Path, broker: Redis) -> None:
    with served(tmp_path, broker_url=broker.url) as (app, key):
        report = fuzz(app, key, 180)
    assert report.errors == 0, str(report)
    assert not report.breaks, f"{report}\n{report.examples}"
    assert {name: report.share(name) for name in report.statuses if report.share(name) < 0.2} == {}
    assert len(report.statuses) > 30
