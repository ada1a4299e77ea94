"""A few lines of SVG: one panel with axes, for light and dark pages."""

import html
import math

LIGHT = {"c0": "#1f6feb", "c1": "#0a8f7a", "c2": "#b35900", "c3": "#a8328c", "c4": "#6e7781"}
DARK = {"c0": "#58a6ff", "c1": "#2dd4b0", "c2": "#f0a04b", "c3": "#ee82cf", "c4": "#8b949e"}


def color_rules(colors, words, title, page):
    rules = [f"text {{ fill: {words} }}", f".title {{ fill: {title} }}",
             f".grid, .axis {{ stroke: {words} }}", f".page {{ fill: {page} }}"]
    for name, color in colors.items():
        rules.append(f".stroke.{name}, .hollow.{name} {{ stroke: {color} }}")
        rules.append(f".fill.{name} {{ fill: {color} }}")
    return "\n".join(rules)


STYLE = f"""
text {{ font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif }}
.title {{ font-size: 14px; font-weight: 600 }}
.strong {{ font-weight: 600 }}
.small {{ font-size: 11px }}
.grid {{ stroke-opacity: .18 }}
.axis {{ stroke-opacity: .6 }}
.line {{ fill: none; stroke-width: 2; stroke-linejoin: round }}
.hollow {{ stroke-width: 1.6 }}
{color_rules(LIGHT, "#57606a", "#1f2328", "#ffffff")}
@media (prefers-color-scheme: dark) {{
{color_rules(DARK, "#9198a1", "#f0f6fc", "#0d1117")}
}}
"""


class Scale:
    """Data to pixels, linear or logarithmic."""

    def __init__(self, low, high, start, end, is_log=False):
        self.of = math.log if is_log else float
        self.low, self.high = self.of(low), self.of(high)
        self.start, self.end = start, end

    def __call__(self, value):
        share = (self.of(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


class Figure:
    def __init__(self, width, height, description):
        self.width, self.height, self.parts = width, height, []
        self.description = description

    def add(self, part):
        self.parts.append(part)

    def text(self, x, y, words, classes="", anchor="start"):
        self.add(f'<text x="{x:.1f}" y="{y:.1f}" class="{classes}" text-anchor="{anchor}">'
                 f"{html.escape(words)}</text>")

    def segment(self, x1, y1, x2, y2, classes):
        self.add(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
                 f'class="{classes}"/>')

    def line(self, points, classes, dashes=""):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self.add(f'<polyline points="{path}" class="line stroke {classes}"{dashed}/>')

    def area(self, points, classes, opacity):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.add(f'<polygon points="{path}" class="fill {classes}" fill-opacity="{opacity}"/>')

    def dot(self, x, y, classes, is_filled=True):
        kind = "fill" if is_filled else "hollow page"
        self.add(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" class="{kind} {classes}"/>')

    def axes(self, x, y, x_ticks, y_ticks):
        """`x`, `y`: scales; ticks: [(value, label)]."""
        for value, label in y_ticks:
            self.segment(x.start, y(value), x.end, y(value), "grid")
            self.text(x.start - 7, y(value) + 4, label, anchor="end")
        for value, label in x_ticks:
            self.segment(x(value), y.start, x(value), y.start + 4, "axis")
            self.text(x(value), y.start + 18, label, anchor="middle")
        self.segment(x.start, y.start, x.end, y.start, "axis")

    def write(self, path):
        body = "\n".join(self.parts)
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img">\n'
            f"<title>{html.escape(self.description)}</title>\n<style>{STYLE}</style>\n"
            f"{body}\n</svg>\n")


def spread_labels(places, gap, bottom):
    """Moves labels apart that would overlap: [(y, …)] sorted by y, `gap` apart, none below bottom."""
    moved = []
    for place in sorted(places):
        y = max(place[0], moved[-1][0] + gap) if moved else place[0]
        moved.append((y, *place[1:]))
    for i in reversed(range(len(moved))):
        limit = moved[i + 1][0] - gap if i + 1 < len(moved) else bottom
        moved[i] = (min(moved[i][0], limit), *moved[i][1:])
    return moved
