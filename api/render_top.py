"""Shows the figures of `medq top` in a terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from api.render import STATUS_STYLES, bar, line
from api.top import Top

OLD_S = (
    120.0  # a person's job that waited longer is shown in red; the alert MedqPeopleWait has the same limit
)


def top_view(seen: Top, url: str) -> RenderableType:
    parts: list[RenderableType] = [_headline(seen, url), _stages(seen)]
    if seen.workers is None:
        parts.append(Text("Redis does not answer: nothing is known of the workers.", style="bold red"))
    parts += [_device(seen), _rest(seen)]
    return Group(*parts)


def _headline(seen: Top, url: str) -> Text:
    text = Text().append(f"{line(url)}  ", "bold")
    for status, number in seen.jobs.items():
        text.append(f"{number:,} {line(status)}  ", STATUS_STYLES.get(status, ""))
    if seen.pauses:
        text.append(f"{seen.pauses} paused (medq resume)", "bold yellow")
    return text


def _stages(seen: Top) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in (
        "stage",
        "waiting",
        "of archives",
        "oldest",
        "running",
        "done/s",
        "failed/s",
        "mean",
        "95 %",
        "workers",
    ):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for row in seen.stages:
        role = "vision" if row.stage == "explain" else row.stage  # the same process does both
        table.add_row(
            row.stage,
            f"{row.waiting:,}",
            f"{row.waiting_bulk:,}",
            Text(seconds(row.oldest_s), "bold red" if row.waiting and row.oldest_s > OLD_S else ""),
            f"{row.running:,}",
            f"{row.done_rate:.1f}",
            Text(f"{row.failed_rate:.1f}", "bold red" if row.failed_rate else ""),
            seconds(row.mean_s),
            seconds(row.tail_s),
            _there(seen, role),
        )
    return table


def _there(seen: Top, role: str) -> Text:
    if seen.workers is None:
        return Text("?")
    number = seen.workers[role]
    return Text(str(number), "" if number else "bold red")


def _device(seen: Top) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    if seen.device and (busy := seen.device["busy_share"]) is not None:
        words = f"{busy * 100:.0f} %  {seen.device['pictures_rate'] or 0:.1f} pictures/s"
        table.add_row("device busy", bar(busy, None, "cyan"), words)
    if seen.device and (fill := seen.device["fill"]) is not None:
        words = f"{fill * 100:.0f} %  decode {seconds(seen.device['decode_s'])}, pass {seconds(seen.device['forward_s'])}"
        table.add_row("microbatch fill", bar(fill, None, "cyan"), words)
    return table


def _rest(seen: Top) -> Text:
    lines = []
    if seen.llm and seen.llm["calls_rate"]:
        told = {name: value or 0.0 for name, value in seen.llm.items()}
        lines.append(
            f"language model  {told['calls_rate']:.2f} calls/s, {told['failed_rate']:.2f} failed/s, "
            f"mean {seconds(seen.llm['mean_s'])}, 95 % {seconds(seen.llm['tail_s'])}, "
            f"{told['input_tokens_rate']:.0f} + {told['output_tokens_rate']:.0f} tokens/s"
        )
    did = ", ".join(f"{number} {action}" for action, number in (seen.swept or {}).items() if number)
    gone = [role for role in ("archive", "sweeper") if seen.workers is not None and not seen.workers[role]]
    lines.append(
        f"sweeper         {did or 'nothing to do'}" + "".join(f"; no {role} worker" for role in gone)
    )
    lines.append(
        f"webhooks        {seen.webhooks['waiting']:.0f} waiting, {seen.webhooks['delivered_rate']:.1f} delivered/s, "
        f"{seen.webhooks['not_delivered_rate']:.1f} not/s"
    )
    lines.append(
        f"requests        {seen.requests['rate']:.1f}/s, {seen.requests['refused_rate']:.1f} refused/s, "
        f"{seen.requests['error_rate']:.1f} errors/s"
    )
    return Text("\n".join(lines))


def seconds(value: float | None) -> str:
    """Three figures at most; nothing for what did not happen."""
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 100:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 6000 else f"{value / 3600:.1f} h"
