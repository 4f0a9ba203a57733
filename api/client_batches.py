"""The client's part for batches: archives go in pieces and resume, results come as whole files or not at all."""

import base64
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import httpx

from api.memory import Memory
from api.sources import Source, source_of, utf8_name
from api.transport import (
    ClientError,
    Connection,
    Patience,
    ProblemError,
    UnexpectedAnswer,
    checked_name,
    parsed,
)
from shared.batch_schemas import (
    Batch,
    BatchList,
    BatchMetrics,
    RejectedEntry,
    RejectedList,
    RerunOnly,
    UploadInfo,
)

TUS = {"Tus-Resumable": "1.0.0"}
PIECE_BYTES = 64 * 2**20  # the server brings each piece to its disk before it answers
KINDS = ("csv", "jsonl", "zip")
UPLOAD = re.compile(r"/v1/uploads/([0-9a-f-]{36})")

Kind = Literal["csv", "jsonl", "zip"]
Report = Callable[[int], None]  # bytes so far


def silent(size: int) -> None:
    """Reports to nobody."""


class BatchClient(Connection):
    """What can be done with batches."""

    def batch(
        self,
        archive: Path | Source,
        *,
        manifest: Path | None = None,
        idempotency_key: str | None = None,
        report: Report = silent,
        memory: Memory | None = None,
        **fields: Any,
    ) -> Batch:
        """Send an archive, or a folder as one; `fields` are a job's, for every entry that names no others.

        A connection that breaks is taken up again, and with a `memory` also by a later call.

        Raises: OSError, ProblemError, Unreachable, UnexpectedAnswer
        """
        source = source_of(archive) if isinstance(archive, Path) else archive
        upload_id = self.upload(source, report=report, memory=memory)
        batch = self.batch_of(upload_id, manifest=manifest, idempotency_key=idempotency_key, **fields)
        if memory:
            memory.forget(self._remembered(source))
        return batch

    def batch_of(
        self,
        upload_id: str,
        *,
        manifest: Path | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Batch:
        """Make a batch of a finished upload. Safe to repeat: an upload becomes one batch."""
        given = {name: _text(value) for name, value in fields.items() if value is not None}
        parts: dict[str, Any] = {name: (None, text) for name, text in given.items()}
        parts["upload_id"] = (None, upload_id)
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        patience = Patience(self)
        while True:
            with ExitStack() as stack:
                if manifest:
                    file = stack.enter_context(manifest.open("rb"))
                    parts["manifest"] = (utf8_name(manifest.name), file)
                try:
                    return parsed(Batch, self.send("POST", "/v1/batches", files=parts, headers=headers))
                except ClientError as error:
                    patience.wait(error)

    def upload(self, source: Source, *, report: Report = silent, memory: Memory | None = None) -> str:
        """Send bytes by the tus protocol, from where an earlier try broke off; the upload's id.

        Raises: OSError, ProblemError, Unreachable once nothing went on for a minute
        """
        url = memory.get(self._remembered(source)) if memory else None
        patience = Patience(self)
        while True:
            try:
                offset = self._offset(url, source.size) if url else None
                if url is None or offset is None:
                    url, offset = self._begin(source), 0
                    if memory:
                        memory.set(self._remembered(source), url)
                report(offset)
                if offset == source.size:
                    return _upload_id(url)
                self._send_piece(url, source, offset, report)
                patience.renew()
            except ClientError as error:
                patience.wait(error)

    def _begin(self, source: Source) -> str:
        name = base64.b64encode(source.name.encode()).decode()
        headers = TUS | {"Upload-Length": str(source.size), "Upload-Metadata": f"filename {name}"}
        url = str(self.send("POST", "/v1/uploads", headers=headers).headers.get("Location", ""))
        if not UPLOAD.fullmatch(url):
            raise UnexpectedAnswer(f"{self.url} named no upload: is that a MedQ server?")
        return url

    def _offset(self, url: str, size: int) -> int | None:
        """How many bytes the server has; None when it knows no such upload, or another one."""
        if not UPLOAD.fullmatch(url):
            return None
        try:
            found = parsed(UploadInfo, self.send("GET", url))
        except ProblemError as error:
            if error.problem.status == httpx.codes.NOT_FOUND:
                return None
            raise
        return found.offset if found.length == size else None

    def _send_piece(self, url: str, source: Source, offset: int, report: Report) -> None:
        length = min(PIECE_BYTES, source.size - offset)
        headers = TUS | {
            "Upload-Offset": str(offset),
            "Content-Length": str(length),
            "Content-Type": "application/offset+octet-stream",
        }
        self.send("PATCH", url, content=_piece(source, offset, length, report), headers=headers)

    def _remembered(self, source: Source) -> str:
        return f"{self.url} {source.identity}"

    def get_batch(self, id: str, wait: int | None = None) -> Batch:
        """The batch as it is now, or, with `wait`, after that many seconds or at its next change."""
        return parsed(Batch, self.look(_path(id), wait, None))

    def watch_batch(self, id: str) -> Iterator[Batch]:
        """The batch now and after every change, up to its end. Survives a server that restarts."""
        return self.watched(_path(id), Batch, lambda batch: batch.completed_at is not None)

    def wait_batch(self, id: str) -> Batch:
        """The batch once its last job has ended."""
        *_, batch = self.watch_batch(id)
        return batch

    def batches(self, page: int = 50) -> Iterator[Batch]:
        """Every batch, the newest first, fetched `page` at a time as they are asked for."""
        for found in self._pages("/v1/batches", BatchList, page):
            yield from found.items

    def rejected(self, id: str, page: int = 200) -> Iterator[RejectedEntry]:
        """The entries that became no job, each with its problem, in the archive's order."""
        for found in self._pages(f"{_path(id)}/rejected", RejectedList, page):
            yield from found.items

    def batch_metrics(self, id: str) -> BatchMetrics:
        """How good the first findings are by the labels of the manifest."""
        return parsed(BatchMetrics, self.send("GET", f"{_path(id)}/metrics"))

    def cancel_batch(self, id: str) -> Batch:
        return parsed(Batch, self.send("POST", f"{_path(id)}/cancel"))

    def rerun_batch(self, id: str, only: RerunOnly = "failed") -> Batch:
        """A new batch with what failed, or everything, on the current model."""
        return parsed(Batch, self.send("POST", f"{_path(id)}/rerun", json={"only": only}))

    def results(
        self,
        id: str,
        file: Path,
        *,
        kind: Kind | None = None,
        against: str | None = None,
        bom: bool = False,
        images: bool = False,
        report: Report = silent,
    ) -> None:
        """Write the results so far to `file`, of the kind that its suffix says. It appears when it is complete.

        Raises: OSError, ClientError
        """
        kind = kind or kind_of(file)
        wanted = {"against": against, "bom": bom or None, "images": images or None}
        if kind == "jsonl" and any(wanted.values()):
            raise ClientError("Differences, byte order marks and images come as csv or zip, not as jsonl.")
        params = {name: str(value).lower() for name, value in wanted.items() if value is not None}
        draft = file.with_name(f".{file.name}.part")
        patience = Patience(self)
        while True:
            try:
                self._fetch(f"{_path(id)}/results.{kind}", params, draft, report)
                _check_complete(draft, kind)
                draft.replace(file)
            except ClientError as error:
                patience.wait(error)
            else:
                return
            finally:
                draft.unlink(missing_ok=True)

    def _fetch(self, path: str, params: dict[str, str], draft: Path, report: Report) -> None:
        size = 0
        with draft.open("wb") as out, self.stream(path, params=params) as response:
            for chunk in response.iter_bytes():
                out.write(chunk)
                size += len(chunk)
                report(size)

    def _pages(self, path: str, schema: Any, page: int) -> Iterator[Any]:
        params: dict[str, Any] = {"limit": page}
        while True:
            found = parsed(schema, self.send("GET", path, params=params))
            yield found
            if found.next is None:
                return
            params["cursor"] = found.next


def kind_of(file: Path) -> Kind:
    """Raises: ClientError"""
    for kind in KINDS:
        if file.suffix.lower() == f".{kind}":
            return kind  # type: ignore[return-value]
    raise ClientError(f"{file.name}: results come as .csv, .jsonl or .zip.")


def _check_complete(draft: Path, kind: Kind) -> None:
    """A server ends an answer that failed on its way like one that is complete; a mark in it says so."""
    if kind == "zip":
        if not zipfile.is_zipfile(draft):
            raise UnexpectedAnswer("The results broke off on their way. Try again.")
        return
    with draft.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 1000))
        last = file.read().rstrip(b"\r\n").rpartition(b"\n")[2]
    if last.startswith((b'"incomplete"', b'{"type": "/problems/')):
        raise UnexpectedAnswer("The server failed while it sent the results. Try again.")


def _piece(source: Source, offset: int, length: int, report: Report) -> Iterator[bytes]:
    left = length
    for chunk in source.read(offset):
        yield chunk[:left]
        left -= min(left, len(chunk))
        report(offset + length - left)
        if not left:
            return
    raise OSError(f"{source.name} became shorter while it was sent")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _upload_id(url: str) -> str:
    return url.rpartition("/")[2]


def _path(id: str) -> str:
    return f"/v1/batches/{checked_name(id, 'a batch id')}"
