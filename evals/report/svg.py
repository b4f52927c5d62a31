"""Small SVG plots: lines with bands, and bars. Pure functions from numbers to text.

Colours come from CSS classes of the page (`before`, `after`, `s0` to `s5`), so that plots follow
light and dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 460, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 42

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a plot.

    Attributes:
        label: in the legend; empty for none.
        color: class of its colour.
        points: (x, y), x ascending.
        band: (x, low, high) of an area behind it.
        dots: mark every point, with its numbers as a tooltip.
        faint: draw it as background to another one.
    """

    label: str
    color: str
    points: Sequence[Point]
    band: Sequence[tuple[float, float, float]] = ()
    dots: bool = False
    faint: bool = False


@dataclass(frozen=True, kw_only=True)
class Bars:
    """One set of bars of a histogram: `heights[i]` over the i-th bin."""

    label: str
    color: str
    heights: Sequence[float]
    tips: Sequence[str] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Scale:
    """From values to places between two pixels; logarithmic to the base 2 where asked for."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log2(low), math.log2(high), math.log2(value)
        return self.start + (value - low) / (high - low or 1.0) * (self.end - self.start)


def line_plot(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    x_ticks: Sequence[float] | None = None,
    log: bool = False,
) -> str:
    """Lines over numbers, as an `<svg>`; empty text where there is no point."""
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    xs = [x for x, _ in points]
    x = Scale(low=min(xs), high=max(xs), start=_LEFT, end=WIDTH - _RIGHT, log=log)
    if y_range is None:
        bands = [end for line in lines for _, *ends in line.band for end in ends]
        y_range = nice_range([*(value for _, value in points), *bands])
    y = Scale(low=y_range[0], high=y_range[1], start=HEIGHT - _BOTTOM, end=_TOP)
    ticks = x_ticks if x_ticks is not None else nice_ticks(min(xs), max(xs), whole=True)
    body = [_grid(y), _x_axis(x, ticks, x_label)]
    body += [_band(line, x, y) for line in lines if line.band]
    body += [_line(line, x, y) for line in lines]
    body += [_dots(line, x, y, x_label, y_label) for line in lines if line.dots]
    return _svg(f"{y_label} over {x_label}", body)


def bar_plot(
    sets: Sequence[Bars],
    edges: Sequence[float],
    *,
    x_label: str,
    y_label: str,
    ticks: Sequence[tuple[float, str]],
) -> str:
    """Bars over bins, the sets beside each other in every bin, as an `<svg>`.

    Args:
        sets: bars, as many as there are bins.
        edges: the ends of the bins, one more than there are bins.
        x_label: below the axis.
        y_label: what heights are, for a screen reader.
        ticks: places on the x axis, with what to write there.
    """
    top = max((height for bars in sets for height in bars.heights), default=0.0) or 1.0
    x = Scale(low=edges[0], high=edges[-1], start=_LEFT, end=WIDTH - _RIGHT)
    y = Scale(low=0.0, high=nice_range([0.0, top])[1], start=HEIGHT - _BOTTOM, end=_TOP)
    body = [_grid(y, lambda value: f"{100 * value:g}%")]
    body.append(_x_axis(x, [place for place, _ in ticks], x_label, [text for _, text in ticks]))
    for index, bars in enumerate(sets):
        for left, right, height, tip in zip(
            edges[:-1], edges[1:], bars.heights, bars.tips, strict=True
        ):
            width = (x(right) - x(left)) * 0.88 / len(sets)
            start = x(left) + (x(right) - x(left)) * 0.06 + index * width
            if height > 0:
                body.append(
                    f'<rect class="bar {bars.color}" x="{start:.1f}" y="{y(height):.1f}" '
                    f'width="{max(0.8, width - 0.6):.1f}" height="{y(0) - y(height):.1f}" rx="1">'
                    f"<title>{escape(tip)}</title></rect>"
                )
    return _svg(f"{y_label} over {x_label}", body)


def nice_ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def nice_range(values: Sequence[float]) -> tuple[float, float]:
    """Round ends that hold all values."""
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # equal, but for rounding
        low, high = low - (abs(low) or 1.0) * 0.5, high + (abs(high) or 1.0) * 0.5
    ticks = nice_ticks(low, high)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else high - low
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def smooth(points: Sequence[Point], window: int) -> list[Point]:
    """The mean over the `window` points that end at each point."""
    smoothed = []
    total = 0.0
    for index, (x, value) in enumerate(points):
        total += value
        if index >= window:
            total -= points[index - window][1]
        smoothed.append((x, total / min(index + 1, window)))
    return smoothed


def thin(points: Sequence[Point], most: int = 400) -> list[Point]:
    """At most about `most` points, each the mean of a run of neighbours."""
    size = -(-len(points) // most)
    if size <= 1:
        return list(points)
    runs = [points[start : start + size] for start in range(0, len(points), size)]
    return [(run[-1][0], math.fsum(value for _, value in run) / len(run)) for run in runs]


def _svg(title: str, body: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        + "".join(body)
        + "</svg>"
    )


def compact(value: float) -> str:
    """A tick in at most six characters or so: `0.25`, `40000`, `1.5e-6`."""
    text = f"{value:g}"
    if len(text) <= 6 and "e" not in text:
        return text
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"


def _grid(y: Scale, form: Callable[[float], str] = compact) -> str:
    parts = []
    for tick in nice_ticks(y.low, y.high, 4):
        place = f"{y(tick):.1f}"
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{place}" y2="{place}"/>'
            f'<text class="tick" x="{_LEFT - 7}" y="{y(tick) + 4:.1f}" text-anchor="end">'
            f"{form(tick)}</text>"
        )
    return "".join(parts)


def _x_axis(
    x: Scale, ticks: Sequence[float], label: str, names: Sequence[str] | None = None
) -> str:
    base = HEIGHT - _BOTTOM
    parts = [f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>']
    for tick, name in zip(ticks, names or list(map(compact, ticks)), strict=True):
        parts.append(
            f'<text class="tick" x="{x(tick):.1f}" y="{base + 17}" text-anchor="middle">'
            f"{escape(name)}</text>"
        )
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="label" x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(label)}</text>"
    )
    return "".join(parts)


def _line(line: Line, x: Scale, y: Scale) -> str:
    places = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line.points)
    faint = " faint" if line.faint else ""
    return f'<polyline class="line {line.color}{faint}" points="{places}"/>'


def _band(line: Line, x: Scale, y: Scale) -> str:
    upper = [f"{x(a):.1f},{y(high):.1f}" for a, _, high in line.band]
    lower = [f"{x(a):.1f},{y(low):.1f}" for a, low, _ in reversed(line.band)]
    return f'<polygon class="band {line.color}" points="{" ".join(upper + lower)}"/>'


def _dots(line: Line, x: Scale, y: Scale, x_label: str, y_label: str) -> str:
    ends = {place: (low, high) for place, low, high in line.band}
    parts = []
    for a, b in line.points:
        tip = f"{x_label} {a:g}: {y_label} {b:.3f}"
        if a in ends:
            tip += " [{:.3f}, {:.3f}]".format(*ends[a])
        tip = f"{line.label}, {tip}" if line.label else tip
        parts.append(
            f'<circle class="dot {line.color}" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3"/>'
            f'<circle class="hit" cx="{x(a):.1f}" cy="{y(b):.1f}" r="9">'
            f"<title>{escape(tip)}</title></circle>"
        )
    return "".join(parts)
