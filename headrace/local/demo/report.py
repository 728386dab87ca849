"""`report.html`: one file with everything in it, which asks the network for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from headrace.local.demo.charts import Line, Mark, histogram, line_chart
from headrace.local.demo.figures import ROLLING, Figures, cumulative_mean, rolling_mean
from headrace.local.demo.summary import LiveModel, Row, Summary, is_right
from headrace.local.movielens import CREDIT

_SETTLED = 200
"""Events after which a mean is drawn: that of the first few says nothing."""


def render(figures: Figures, summary: Summary, rows: Sequence[Row]) -> str:
    """Return the report as a page of HTML."""
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    sections = [
        _head(summary),
        _table(rows),
        _notes(summary),
        _hits(figures, summary),
        _durations(
            "Freshness",
            "From an event's acknowledgement by Kafka to the first answer whose session carries "
            f"it: {summary.freshness_samples:,} events, every tenth one, asked for every 5 ms.",
            figures.freshness.ms,
        ),
        _durations(
            "Answers",
            f"How long {summary.requests:,} requests for recommendations took, "
            f"{summary.requests_training:,} of them while a model was being trained on the same "
            "machine.",
            figures.requests.ms,
        ),
        _versions(summary.model_versions),
        _foot(summary),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>Headrace: what the demo reached</title><style>{style}</style></head>\n"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _head(summary: Summary) -> str:
    verdict = (
        f"{summary.events_sent:,} events were sent, and every user's session is what the file says "
        "it must be: none was lost, none counted twice."
        if is_right(summary)
        else f"The sessions are not what the stream makes them: {summary.events_sent:,} events "
        f"sent, {summary.events_applied:,} applied, {summary.users_that_differ} users differ."
    )
    return (
        "<header><h1>Headrace</h1><p>100,000 real ratings through Kafka, Faust, Redis, the query "
        f"tower and the item index, and out as recommendations. {escape(verdict)}</p></header>"
    )


def _table(rows: Sequence[Row]) -> str:
    body = "".join(
        f'<tr><th scope="row">{escape(row.figure)}</th>'
        f'<td class="number">{escape(row.reached)}</td><td>{escape(row.target)}</td>'
        f"<td>{_verdict(row)}</td></tr>"
        for row in rows
    )
    return (
        '<section><h2>Summary</h2><div class="wide"><table><thead><tr><th scope="col">figure</th>'
        '<th scope="col" class="number">reached</th><th scope="col">to be reached</th>'
        f'<th scope="col">met</th></tr></thead><tbody>{body}</tbody></table></div></section>'
    )


def _verdict(row: Row) -> str:
    if not row.target:
        return ""
    return '<span class="met">✓ yes</span>' if row.met else '<span class="missed">✗ no</span>'


def _notes(summary: Summary) -> str:
    notes = [*summary.notes, *(f"{count} times: {why}" for why, count in summary.failures.items())]
    if not notes:
        return ""
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<section><h2>Notes</h2><ul>{listed}</ul></section>"


def _hits(figures: Figures, summary: Summary) -> str:
    model, popularity = figures.hits.model(), figures.hits.baseline("popularity")
    rules, knn = figures.hits.baseline("rules"), figures.hits.baseline("knn")
    if len(model) <= _SETTLED:
        return ""
    lines = [
        *_means("model", model, figures.hits.first),
        *_means("popularity", popularity, figures.hits.first),
        _rolling("sequential rules", "rules", rules, figures.hits.first),
        _rolling("item-kNN", "knn", knn, figures.hits.first),
    ]
    swaps = [
        Mark(float(swap.live_since_event), f"{swap.version[-6:]} goes live")
        for swap in summary.model_versions
        if swap.live_since_event > figures.hits.first
    ]
    chart = line_chart(
        "HR@10 over the stream",
        f"The model ends at {model.mean():.3f} over all events, popularity at "
        f"{_mean(popularity)}, sequential rules at {_mean(rules)}, item-kNN at {_mean(knn)}; "
        f"{len(swaps)} versions went live meanwhile.",
        lines,
        swaps,
        x_label="events sent",
        y_label="HR@10",
    )
    legend = "".join(
        f'<li><span class="key {line.style}"></span>{escape(line.name)}</li>' for line in lines
    )
    return (
        "<section><h2>HR@10 over the stream</h2><p>Before each of the last 20 % of the events its "
        "user's ten recommendations were asked for: how often was the item among them that the "
        f'user took next?</p><ul class="legend">{legend}</ul>{chart}</section>'
    )


def _means(name: str, hits: NDArray[np.float64], first: int) -> list[Line]:
    x = np.arange(first, first + len(hits), dtype=np.float64)[_SETTLED:]
    return [
        Line(f"{name}, all so far", f"{name} cumulative", x, cumulative_mean(hits)[_SETTLED:]),
        _rolling(name, name, hits, first),
    ]


def _rolling(name: str, style: str, hits: NDArray[np.float64], first: int) -> Line:
    x = np.arange(first, first + len(hits), dtype=np.float64)[_SETTLED:]
    means = rolling_mean(hits)[_SETTLED:]
    return Line(f"{name}, last {ROLLING:,}", f"{style} rolling", x, means)


def _mean(hits: NDArray[np.float64]) -> str:
    return f"{hits.mean():.3f}" if len(hits) else "nothing measured"


def _durations(title: str, text: str, ms: NDArray[np.float64]) -> str:
    if not len(ms):
        return ""
    p50, p99, slowest = np.percentile(ms, (50, 99, 100))
    description = f"Median {p50:.1f} ms, 99th percentile {p99:.1f} ms, slowest {slowest:.1f} ms."
    chart = histogram(title, description, ms, x_label="milliseconds")
    return (
        f"<section><h2>{title}</h2><p>{escape(text)} {description} The slowest half per cent stand "
        f"in the last bar or beyond.</p>{chart}</section>"
    )


def _versions(models: Sequence[LiveModel]) -> str:
    body = "".join(
        f'<tr><th scope="row"><code>{escape(model.version)}</code></th>'
        f'<td class="number">{model.live_since_event:,}</td>'
        f'<td class="number">{_count(model.trained_on_events)}</td>'
        f"<td>{escape(_metrics(model))}</td></tr>"
        for model in models
    )
    return (
        '<section><h2>Versions that were live</h2><div class="wide"><table><thead><tr>'
        '<th scope="col">version</th><th scope="col" class="number">live from event</th>'
        '<th scope="col" class="number">trained on events</th>'
        '<th scope="col">measured by the trainer, on events it held out</th>'
        f"</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _metrics(model: LiveModel) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in sorted(model.metrics.items()))


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _foot(summary: Summary) -> str:
    machine = summary.machine
    return (
        f"<footer><p>{machine.cpus} CPUs, {escape(machine.system)}, Python "
        f"{escape(machine.python)}; everything, the load included, ran on this one machine.</p>"
        f"<p>{escape(CREDIT)}.</p></footer>"
    )
