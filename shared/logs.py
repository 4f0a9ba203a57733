"""Logs as JSON, one object a line; `bound(job_id=…)` puts ids on every line below it."""

import logging
import sys

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars

bound = bound_contextvars
ROOMS = ("api", "deploy", "migrations", "shared", "training", "workers", "__main__")


def configure(level: str, form: str, process: str) -> None:
    """Route structlog and the standard library's loggers to stdout in one shape."""
    shared: list[structlog.typing.Processor] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        lambda _logger, _name, event: {**event, "process": process},
    ]
    final: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
        if form == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stdout.isatty(),
                exception_formatter=structlog.dev.plain_traceback,  # the rich one shows local variables
            )
        ]
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    # Libraries tell too much at DEBUG: httpcore whom it reaches and the headers that come back, openai 1.x whole prompts.
    least = max(logging.getLevelNamesMapping()[level], logging.INFO)
    # Of one that gives its own logger a level, as bm25s does, the root's is not asked.
    handler.addFilter(lambda record: record.levelno >= least or record.name.split(".")[0] in ROOMS)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(least)
    for room in ROOMS:
        logging.getLogger(room).setLevel(level)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
