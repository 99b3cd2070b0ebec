"""The run report: one HTML file with curves, tables and sampled tasks; needs nothing but itself.

Model text is hostile. Everything passes `html.escape`, and a content policy forbids scripts and
loads, so that a report can be opened and passed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from azr_jax import storage
from azr_jax.errors import UserError
from azr_jax.report.metrics import Row, read_rows
from azr_jax.report.summary import Summary, read_summary

_SAMPLES_SHOWN = 24
_POINTS_DRAWN = 400
_PALETTE = ("#3b6fd4", "#d9742b", "#3a9a5c", "#b0479b", "#7a6ad0", "#a08a1d")

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8889; --card: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.facts { color: var(--soft); margin-top: .2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .9rem; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } th:first-child, td:first-child { text-align: left; }
tr.all td { font-weight: 600; border-top: 2px solid var(--line); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1rem; }
figure { margin: 0; padding: .7rem; background: var(--card); border-radius: .5rem; }
figcaption { font-weight: 600; } svg { width: 100%; height: auto; display: block; }
svg text { font-size: 9px; fill: currentColor; opacity: .7; }
.key { font-size: .8rem; margin-right: .8rem; white-space: nowrap; }
.key i { display: inline-block; width: .8em; height: .2em; margin-right: .35em;
  vertical-align: .25em; }
details { margin: .5rem 0; padding: .5rem .8rem; background: var(--card); border-radius: .5rem; }
summary { cursor: pointer; } dt { color: var(--soft); font-size: .8rem; } dd { margin: 0 0 .5rem; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; }
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_report(run_dir: storage.PathLike, out: Path | None = None) -> Path:
    """Writes the report of a run, finished or not, to `out` (`run_dir/report.html`).

    Raises:
      UserError: when `run_dir` holds no metrics.
    """
    directory = storage.absolute(run_dir)
    rows = list(read_rows(directory / "metrics"))
    if not rows:
        raise UserError(f"{run_dir} holds no metrics: not a run directory, or no step is done yet")
    text = _page(
        name=directory.name,
        rows=rows,
        summary=read_summary(directory),
        samples=list(read_rows(directory / "samples")),
        config=(storage.read(directory / "config.gin") or b"").decode("utf-8", "replace"),
    )
    if out is None:
        out = storage.locate(run_dir) / "report.html"
        storage.write(out, text)
    else:
        out.write_text(text, encoding="utf-8", errors="backslashreplace")
    return out


def _page(
    *, name: str, rows: Sequence[Row], summary: Summary | None, samples: Sequence[Row], config: str
) -> str:
    facts = [f"{int(rows[-1]['step']) + 1} steps"]
    if summary:
        facts += [
            f"{summary['seconds'] / 60:.1f} minutes",
            str(summary["device"]),
            f"sandbox level {summary['sandbox_level']}",
            f"valid proposals {100 * summary['valid_proposals']['mean']:.0f} %",
        ]
    else:
        facts.append("not finished")
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        "<meta name='viewport' content='width=device-width'>",
        f"<title>{escape(name)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(name)}</h1><p class='facts'>{escape(' · '.join(facts))}</p>",
    ]
    if summary and "heldout" in summary:
        parts += ["<h2>Held-out accuracy, in %</h2>", _accuracy_table(summary["heldout"])]
    parts += ["<h2>Curves, by step</h2><div class='charts'>", *_charts(rows), "</div>"]
    if samples:
        parts += ["<h2>Samples</h2>", *(_sample(row) for row in _spread(samples, _SAMPLES_SHOWN))]
    if config:
        parts += [
            f"<h2>Configuration</h2><details><summary>config.gin</summary>{_pre(config)}</details>"
        ]
    return "\n".join([*parts, "</body></html>\n"])


def _accuracy_table(held: Mapping[str, Any]) -> str:
    rows = ["<tr><th>mode</th><th>task type</th><th>before</th><th>after</th><th>gain</th></tr>"]
    modes = {"sampled": "sampled", "greedy": "greedy", "best_temperature": "at_best_temperature"}
    for mode, gain_mode in modes.items():
        for name in held["before"]:
            gain = held["gain"][name][gain_mode]
            cells = [mode.replace("_", " "), name]
            cells += [
                f"{100 * held[when][name][mode]['mean']:.1f} ± "
                f"{100 * held[when][name][mode]['stderr']:.1f}"
                for when in ("before", "after")
            ]
            cells.append(f"{100 * gain['mean']:+.1f} ± {100 * gain['stderr_paired']:.1f}")
            row = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            rows.append(f"<tr{' class=all' if name == 'all' else ''}>{row}</tr>")
    return f"<table>{''.join(rows)}</table>"


# --- curves ------------------------------------------------------------------------------------

Curve = list[tuple[float, float]]


def _charts(rows: Iterable[Row]) -> Iterable[str]:
    """One chart for each first part of a key; its curves are the rest."""
    charts: dict[str, dict[str, Curve]] = {}
    for row in rows:
        for key, value in row.items():
            if key != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                chart, _, curve = key.partition("/")
                points = charts.setdefault(chart, {}).setdefault(curve, [])
                points.append((float(row["step"]), float(value)))
    return [_chart(title, curves) for title, curves in charts.items()]


def _chart(title: str, curves: Mapping[str, Curve]) -> str:
    width, height, left, bottom = 300, 130, 36, 14
    points = [point for curve in curves.values() for point in curve]
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    if y_low == y_high:
        y_low, y_high = y_low - 0.5, y_high + 0.5
    x_span = (x_high - x_low) or 1.0

    def place(point: tuple[float, float]) -> str:
        x = left + (point[0] - x_low) / x_span * (width - left - 4)
        y = 6 + (y_high - point[1]) / (y_high - y_low) * (height - bottom - 10)
        return f"{x:.1f},{y:.1f}"

    shapes = []
    for share in (0.0, 0.5, 1.0):
        y = 6 + share * (height - bottom - 10)
        value = y_high - share * (y_high - y_low)
        shapes.append(
            f"<line x1='{left}' x2='{width - 4}' y1='{y:.1f}' y2='{y:.1f}' stroke='#8884'/>"
            f"<text x='{left - 4}' y='{y + 3:.1f}' text-anchor='end'>{_short(value)}</text>"
        )
    shapes.append(
        f"<text x='{left}' y='{height - 2}'>{_short(x_low)}</text>"
        f"<text x='{width - 4}' y='{height - 2}' text-anchor='end'>{_short(x_high)}</text>"
    )
    keys = []
    for i, (name, curve) in enumerate(curves.items()):
        colour = _PALETTE[i % len(_PALETTE)]
        path = " ".join(place(point) for point in _spread(curve, _POINTS_DRAWN))
        if len(curve) == 1:
            cx, cy = path.split(",")
            shapes.append(f"<circle cx='{cx}' cy='{cy}' r='2' fill='{colour}'/>")
        else:
            shapes.append(
                f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.4'/>"
            )
        if name:
            keys.append(
                f"<span class='key'><i style='background:{colour}'></i>{escape(name)}</span>"
            )
    return (
        f"<figure><figcaption>{escape(title.replace('_', ' '))}</figcaption>"
        f"<svg viewBox='0 0 {width} {height}' role='img'>{''.join(shapes)}</svg>"
        f"{''.join(keys)}</figure>"
    )


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1e4 else f"{value:.1e}"


# --- samples -----------------------------------------------------------------------------------


def _sample(row: Row) -> str:
    """One row of `samples/`, whatever it holds: short values in the title, texts below."""
    short = {k: v for k, v in row.items() if not isinstance(v, str | list | dict) or _fits(v)}
    head = " · ".join(f"{k} {_text(v)}" for k, v in short.items())
    body = "".join(
        f"<dt>{escape(key)}</dt><dd>{_pre(_text(value))}</dd>"
        for key, value in row.items()
        if key not in short
    )
    return f"<details><summary>{escape(head)}</summary><dl>{body}</dl></details>"


def _fits(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 16 and "\n" not in value


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return "\n".join(_text(item) for item in value)
    return str(value)


def _pre(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items, evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
