"""Shows jobs in a terminal; nothing that a server sends can move the cursor or change colours."""

import re
from collections.abc import Iterable, Mapping

from rich.align import Align
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from shared.catalog import Urgency
from shared.lifecycle import TERMINAL
from shared.schemas import Answer, Citation, Finding, Grade, Job, PipelineInfo, Segment, Usage

BAR_CELLS = 24
READING_WIDTH = 96  # columns; longer lines tire the eye
NOT_A_DIAGNOSIS = "MedQ is not a medical device. What follows is a program's guess, not a diagnosis."

# Escape sequences as a whole, then whatever else controls a terminal or the direction of text.
ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]).{0,500}?(?:\x07|\x1b\\|\x9c)"  # OSC and its kind: titles, links
    r"|\x1b[ -/]*[0-~]?",
    re.DOTALL,
)
CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

STATUS_STYLES = {
    "queued": "dim",
    "running": "cyan",
    "succeeded": "green",
    "failed": "bold red",
    "canceled": "yellow",
    "expired": "yellow",
}
URGENCIES: dict[Urgency, tuple[str, str]] = {
    "emergency": ("Emergency: get help now", "bold white on red"),
    "within_24h": ("See a doctor within 24 hours", "bold red"),
    "within_days": ("See a doctor within days", "bold yellow"),
    "routine": ("See a doctor at an ordinary appointment", "bold"),
    "self_care": ("This alone gives no reason for an appointment", "bold"),
}


def plain(text: str) -> str:
    """The text without anything that a terminal would obey; line ends and tabs stay."""
    return CONTROLS.sub("", ESCAPES.sub("", text.replace("\r\n", "\n")))


def line(text: str, limit: int = 80) -> str:
    """The same on one line, shortened."""
    flat = " ".join(plain(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def job_view(job: Job, thresholds: Mapping[str, float] | None = None) -> RenderableType:
    """A job as people read it: warnings first, then findings, then words."""
    parts: list[RenderableType] = [_headline(job)]
    if job.message_of and job.question:
        parts.append(Text(line(job.question, 1000), style="bold"))
    if job.findings or job.grades or job.segments or job.answer:
        parts.append(Text(NOT_A_DIAGNOSIS, style="italic"))
    parts += [_boxed("Warning", line(w.detail, 500), "yellow") for w in job.warnings]
    if job.error:
        title = line(job.error.title)
        parts.append(_boxed(title, line(job.error.detail, 1000), "red"))
    if job.findings:
        parts.append(_findings(job.findings, thresholds or {}))
    if job.grades:
        parts.append(_grades(job.grades))
    if job.segments:
        parts.append(_segments(job.segments))
    if job.answer:
        parts.append(_answer(job.answer))
    if job.status not in TERMINAL:
        parts.append(Text(f"Not finished yet: medq watch {line(job.id)}", style="dim"))
    return Padding(Group(*parts), (0, 0, 1, 0))


def _headline(job: Job) -> Text:
    name = line(job.input.filename or "", 60) if job.input else ""
    text = Text().append(f"{name}  " if name else "", "bold")
    text.append(job.status, STATUS_STYLES[job.status])
    text.append(f"  {line(job.pipeline)}  {line(job.id)}", "dim")
    if job.metrics.total_s is not None:
        text.append(f"  {job.metrics.total_s:.2f} s", "dim")
    return text


def _boxed(title: str, text: str, style: str) -> RenderableType:
    return Panel(
        Text(text), title=Text(title, style=f"bold {style}"), title_align="left", border_style=style,
        width=READING_WIDTH,
    )  # fmt: skip


def percent(probability: float) -> str:
    """Never 0 or 100, which no classifier knows."""
    if probability < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if probability > 0.999 else f"{probability * 100:.1f} %"


def bar(probability: float, threshold: float | None, style: str) -> Text:
    """Filled up to the probability; a line stands at the threshold."""
    filled = round(min(max(probability, 0), 1) * BAR_CELLS)
    cells = Text("█" * filled, style=style) + Text("·" * (BAR_CELLS - filled), style="dim")
    if threshold is None:
        return cells
    at = min(int(threshold * BAR_CELLS), BAR_CELLS - 1)
    return cells[:at] + Text("│", style="bold") + cells[at + 1 :]


def _findings(findings: Iterable[Finding], thresholds: Mapping[str, float]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Finding")
    table.add_column("│ threshold" if thresholds else "")
    table.add_column("Probability", justify="right")
    table.add_column("")
    for finding in findings:
        style = "bold yellow" if finding.above_threshold else ""
        threshold = thresholds.get(finding.label)
        table.add_row(
            Text(f"{line(finding.name)} ({line(finding.label)})", style=style),
            bar(finding.probability, threshold, "yellow" if finding.above_threshold else "blue"),
            Text(percent(finding.probability), style=style),
            Text(_side(finding, threshold), style=style or "dim"),
        )
    return table


def _side(finding: Finding, threshold: float | None) -> str:
    side = "above threshold" if finding.above_threshold else "below"
    return side if threshold is None else f"{side} ({threshold:.3f})"


def _grades(grades: Iterable[Grade]) -> Table:
    table = Table("Condition", "Grade", "", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for grade in grades:
        sure = max(grade.probabilities, default=0.0)
        table.add_row(
            Text(line(grade.name)), Text(f"{grade.grade} {line(grade.grade_name)}"), Text(percent(sure))
        )
    return table


def _segments(segments: Iterable[Segment]) -> Table:
    table = Table("Area", "Pixels", "Of the picture", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for segment in segments:
        table.add_row(
            Text(line(segment.name)), Text(f"{segment.area_px:,}"), Text(percent(segment.area_fraction))
        )
    return table


def _answer(answer: Answer) -> RenderableType:
    words, style = URGENCIES[answer.urgency]
    where = f"  ({line(answer.department)})" if answer.department else ""
    text = plain(answer.text)
    parts: list[RenderableType] = [Text(f"\n{words}{where}", style=style), Text(text)]
    # The reference answer says these itself; a language model's may not.
    unsaid = [plain(said) for said in (answer.next_step, *answer.cannot_tell) if said not in answer.text]
    parts += [Text(f"• {said}") for said in unsaid]
    parts += [
        Text(f"This answer did not pass the check {line(check.name)}.", style="bold red")
        for check in answer.checks
        if not check.passed
    ]
    if answer.refused_reason:
        parts.append(
            Text(f"No language model's answer is shown: {line(answer.refused_reason, 300)}", "yellow")
        )
    parts.append(Text(f"Answer: {_origin(answer)}.", style="dim"))
    if answer.citations:
        parts += [Text("Sources", style="bold"), *_citations(answer)]
    return Align.left(Group(*parts), width=READING_WIDTH)


def _origin(answer: Answer) -> str:
    if answer.source == "reference":
        return "put together from MedQ's own texts, without a language model"
    return f"written by the language model {line(answer.model or '?')}"


def _citations(answer: Answer) -> list[Text]:
    """Each source once, with the quotes that the answer does not show itself; its address can be copied."""
    sources: dict[tuple[str, str | None], list[Citation]] = {}
    for citation in answer.citations:
        sources.setdefault((citation.title, citation.url), []).append(citation)
    shown = []
    for number, ((title, url), cited) in enumerate(sources.items(), 1):
        reviewers = sorted({line(c.reviewed_by) for c in cited if c.reviewed_by})
        reviewed = f"reviewed by {', '.join(reviewers)}" if reviewers else "not reviewed by a clinician"
        text = Text(f"[{number}] {line(title, 200)} ({reviewed})")
        for quote in dict.fromkeys(c.quote for c in cited if c.quote not in answer.text):
            text.append(f"\n    “{line(quote, 500)}”")
        if url:
            text.append(f"\n    {line(url, 500)}", "cyan")
        shown.append(text)
    return shown


def jobs_table(jobs: Iterable[Job]) -> Table:
    table = Table("Job", "Created", "Status", "Pipeline", "File", "First finding", "Question", box=None)
    for job in jobs:
        top = next(iter(job.findings or ()), None)
        table.add_row(
            Text(line(job.id), no_wrap=True),
            Text(f"{job.created_at:%Y-%m-%d %H:%M:%S}", no_wrap=True),
            Text(job.status, STATUS_STYLES[job.status]),
            Text(line(job.pipeline)),
            Text(line((job.input.filename if job.input else None) or "", 24)),
            Text(f"{line(top.label)} {percent(top.probability)}" if top else ""),
            Text(line(job.question or "", 30)),
        )
    return table


def pipelines_table(pipelines: Iterable[PipelineInfo]) -> Table:
    table = Table("Pipeline", "Available", "Labels, or why it is not available", box=None)
    for pipeline in pipelines:
        labels = ", ".join(label.code for label in pipeline.labels)
        lacks = f"{pipeline.reason or ''} {pipeline.train_command or ''}"
        table.add_row(
            Text(line(pipeline.name)),
            Text("yes", "green") if pipeline.available else Text("no", "yellow"),
            Text(line(labels if pipeline.available else lacks, 200)),
        )
    return table


def usage_table(usage: Usage) -> Table:
    cap = f" of {usage.cap:,}" if usage.cap else ""
    cost = f", cost {usage.cost:.2f}" if usage.cost is not None else ""
    table = Table(
        "Model",
        "Calls",
        "Tokens in",
        "Tokens out",
        "Cost",
        box=None,
        title=f"{usage.month}: {usage.tokens:,}{cap} tokens{cost}",
    )
    for one in usage.items:
        price = "" if one.cost is None else f"{one.cost:.2f}"
        table.add_row(
            line(one.model), *(f"{n:,}" for n in (one.calls, one.input_tokens, one.output_tokens)), price
        )
    return table


def stage_words(job: Job) -> str:
    """Where a job stands, in a few words for a progress bar."""
    if job.status in TERMINAL:
        return job.status
    if job.position not in (None, 0):
        return f"waits for {job.stage}, place {job.position}"
    return f"{job.stage or job.status}"
