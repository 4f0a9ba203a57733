"""Drives batches in tests: archives, what sends them, and the parts that workers play by their own functions."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from tests.api.driving import jpeg


def zipped(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def pictures(number: int) -> dict[str, bytes]:
    return {f"{i:03d}.jpg": jpeg(shade=10 + i) for i in range(number)}


def post_batch(
    client: FlaskClient,
    archive: bytes | None = None,
    filename: str = "study.zip",
    headers: dict[str, str] | None = None,
    manifest: tuple[str, bytes] | None = None,
    **fields: str,
) -> TestResponse:
    values: dict[str, Any] = dict(fields)
    if manifest is not None:
        values["manifest"] = FileStorage(io.BytesIO(manifest[1]), manifest[0])
    if archive is not None:
        values["archive"] = FileStorage(io.BytesIO(archive), filename)
    boundary, body = encode_multipart(values)
    content_type = f"multipart/form-data; boundary={boundary}"
    return client.post("/v1/batches", data=body, headers=headers, content_type=content_type)


def accepted(client: FlaskClient, archive: bytes | None = None, **fields: Any) -> dict[str, Any]:
    response = post_batch(client, archive, **fields)
    assert response.status_code == 202, response.text
    found: dict[str, Any] = response.get_json()
    return found
