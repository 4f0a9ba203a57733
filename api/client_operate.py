"""The client's part for whoever operates the system; with keys it needs the scope `admin`."""

from collections.abc import Iterator
from datetime import datetime

from api.transport import Connection, checked_name, parsed
from shared.operate_schemas import Pause, PauseList, Requeued


class OperateClient(Connection):
    """Pauses, requeueing, figures."""

    def metrics(self) -> str:
        """What the server tells Prometheus, in Prometheus's text format."""
        return self.send("GET", "/metrics").text

    def pauses(self) -> PauseList:
        """What is paused, and how many jobs run."""
        return parsed(PauseList, self.send("GET", "/v1/pauses"))

    def pause(self, pipeline: str = "all", lane: str = "all", note: str | None = None) -> Pause:
        """Let jobs wait until `resume`; what workers have begun, they finish."""
        return parsed(Pause, self.send("PUT", _path(pipeline, lane), json={"note": note}))

    def resume(self, pipeline: str = "all", lane: str = "all") -> None:
        """Lift a pause. Raises: ProblemError (404) when there is none"""
        self.send("DELETE", _path(pipeline, lane))

    def requeue(
        self, pipeline: str = "all", lane: str = "all", failed_since: datetime | None = None
    ) -> Iterator[Requeued]:
        """Send waiting jobs again, and run again what failed by a fault since then; an answer for each fifty."""
        body: dict[str, str | None] = {
            "pipeline": pipeline,
            "lane": lane,
            "failed_since": failed_since.isoformat() if failed_since else None,
        }
        while True:
            done = parsed(Requeued, self.send("POST", "/v1/requeue", json=body))
            yield done
            if done.next is None:
                return
            body["cursor"] = done.next


def _path(pipeline: str, lane: str) -> str:
    return f"/v1/pauses/{checked_name(pipeline, 'a pipeline')}/{checked_name(lane, 'a lane')}"
