#!/usr/bin/env python3
"""Draws what measure_scaling.py measured: scaling.svg and prefill_cost.svg. No dependencies.

    plot_scaling.py tests/bench/results

Whole prefills that were not run are sums of chunks measured behind growing depths (hollow dots).
Also prints the fit of the prefill cost, per token: a + b * depth.
"""

import argparse
import json
import pathlib
import statistics

from svg import Figure, Scale, spread_labels

CONTEXTS = [4096 << i for i in range(9)]
NAMES = {"moba": "Quire, MoBA", "full": "Quire, full"}
TIMES = [(0.1, "0.1 s"), (1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"),
         (3600, "1 h"), (36000, "10 h"), (360000, "100 h")]
OPS = [("linear layers", "c4", ("matmul",)),
       ("attention", "c1", ("moba_attention", "full_attention")),
       ("the rest", "c2", ()),
       ("gate", "c0", ("moba_gate",))]


def tokens_label(count):
    return f"{count >> 20}M" if count >= 1 << 20 else f"{count >> 10}K"


def time_label(seconds):
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def rate_label(rate):
    return f"{rate:,.0f} tok/s" if rate >= 100 else f"{rate:.3g} tok/s"


def chunks(series):
    """[(depth, seconds per token, chunk)], by depth."""
    points = [(p["depth"], statistics.median(p["seconds"]) / p["tokens"], p)
              for p in series.get("chunks", {}).values()]
    return sorted(points, key=lambda point: point[0])


def sum_of_chunks(points, context):
    """Seconds of a whole prefill: the integral of the straight lines between the points."""
    total = 0
    for (begin, low, _), (end, high, _) in zip(points, points[1:]):
        if end > context:
            high = low + (high - low) * (context - begin) / (end - begin)
            end = context
        if end > begin:
            total += (end - begin) * (low + high) / 2
    return total


def wholes(series):
    """[(context, seconds, is measured)]."""
    measured = {int(c): statistics.median(p["seconds"]) for c, p in series.get("whole", {}).items()}
    points = chunks(series)
    deepest = points[-1][0] if points and points[0][0] == 0 else 0
    return [(c, measured.get(c) or sum_of_chunks(points, c), c in measured)
            for c in CONTEXTS if c in measured or c <= deepest]


def series_class(name):
    order = ["moba", "full"]
    return f"c{order.index(name)}" if name in order else "c3" if name.startswith("ik") else "c2"


def panel(figure, area, results, pick, y_ticks, title, subtitle):
    left, right, top, bottom = area
    x = Scale(CONTEXTS[0], CONTEXTS[-1], left, right, is_log=True)
    y = Scale(y_ticks[0][0], y_ticks[-1][0], bottom, top, is_log=True)
    figure.text(left - 40, top - 34, title, "title")
    figure.text(left - 40, top - 17, subtitle)
    figure.axes(x, y, [(c, tokens_label(c)) for c in CONTEXTS[::2]], y_ticks)
    labels = []
    for name, series in results["series"].items():
        points = wholes(series)
        if not points:
            continue
        color = series_class(name)
        places = [(x(c), y(pick(c, seconds))) for c, seconds, _ in points]
        figure.line(places, color, dashes="" if name in NAMES else "5 3")
        for place, (_, _, is_measured) in zip(places, points):
            figure.dot(*place, color, is_measured)
        labels.append((places[-1][1] + 4, color, name, points[-1]))
    return right, labels


def draw_scaling(results, path):
    figure = Figure(800, 400, "Prefill of the bundled model against the length of the context")
    seconds = [s for series in results["series"].values() for _, s, _ in wholes(series)]
    rates = [c / s for series in results["series"].values() for c, s, _ in wholes(series)]
    ticks = [t for t in TIMES if min(seconds) / 10 < t[0] < max(seconds) * 10]
    right, labels = panel(figure, (58, 302, 60, 330), results, lambda c, s: s, ticks,
                          "Time to read the whole context", "prefill, log scale")
    for at, color, _, (_, value, _) in spread_labels(labels, 15, 330):
        figure.text(right + 8, at, time_label(value), f"fill strong {color}")
    decades = [10**e for e in range(0, 7) if min(rates) / 10 < 10**e < max(rates) * 10]
    ticks = [(d, f"{d:,}") for d in decades]
    right, labels = panel(figure, (434, 668, 60, 330), results, lambda c, s: c / s, ticks,
                          "Tokens per second over the whole context", "log scale")
    for at, color, name, (context, value, _) in spread_labels(labels, 30, 322):
        figure.text(right + 8, at - 4, NAMES.get(name, name), f"fill strong {color}")
        figure.text(right + 8, at + 9, rate_label(context / value), "small")
    figure.text(18, 374, "● a whole prefill, measured    ○ sum of chunks measured at growing depths",
                "small")
    figure.text(18, 390, f"{results['model']}, {results['threads']} threads, {results['cpu']}; "
                f"{results['date']}", "small")
    figure.write(path)


def fit(points):
    """Least squares of value = a + b * depth, each point weighted by 1 / value**2."""
    weights = [1 / value**2 for _, value in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points)) / total
    spread = sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points))
    slope = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points)) / spread
    return mean_y - slope * mean_x, slope


def op_cost(point, ops):
    """Microseconds per token inside these ops; () means all time that no other line has."""
    _, seconds, chunk = point
    named = {op for _, _, names in OPS for op in names}
    if not ops:
        inside = sum(chunk["op_seconds"].get(op, 0) for op in named)
        mean = statistics.mean(chunk["seconds"])
        return 1e6 * (mean - inside) / chunk["tokens"]
    return 1e6 * sum(chunk["op_seconds"].get(op, 0) for op in ops) / chunk["tokens"]


def cost_facts(results):
    """The fit in numbers: microseconds per token, and per token and million tokens of depth."""
    points = chunks(results["series"]["moba"])
    a, b = fit([(depth, 1e6 * cost) for depth, cost, _ in points])
    gated = [(p[0], op_cost(p, ("moba_gate",))) for p in points if p[2]["work"]["gate_flops"] > 0]
    _, gate = fit(gated)
    deepest = points[-1][2]
    flops = deepest["work"]["gate_flops"] / deepest["tokens"]
    peak = results["peaks"]["gflops"]
    floor = flops / peak / 1e3 / deepest["depth"]
    worst = max(abs(a + b * d - 1e6 * c) / (1e6 * c) for d, c, _ in points if d > 0)
    return {"a": a, "b": b * 2**20, "gate": gate * 2**20, "floor": floor * 2**20,
            "worst": worst, "peak": peak}


def draw_cost(results, path):
    points = [p for p in chunks(results["series"]["moba"])]
    facts = cost_facts(results)
    figure = Figure(800, 400, "Prefill cost per token against depth, MoBA")
    top_value = 1.15 * max(1e6 * cost for _, cost, _ in points)
    step = next(s for s in (5, 10, 20, 25, 50, 100, 200, 500, 1000) if top_value / s < 8)
    x = Scale(0, CONTEXTS[-1], 58, 630)
    y = Scale(0, top_value, 330, 60)
    figure.text(18, 26, "What one more token costs, behind a context of this length", "title")
    figure.text(18, 43, "MoBA prefill of the bundled model, microseconds per token, stacked by op")
    base = [0.0] * len(points)
    labels = []
    for name, color, ops in OPS:
        costs = [max(op_cost(p, ops), 0) for p in points]
        above = [b + c for b, c in zip(base, costs)]
        outline = [(x(p[0]), y(v)) for p, v in zip(points, above)]
        inline = [(x(p[0]), y(v)) for p, v in zip(points, base)]
        figure.area(outline + inline[::-1], color, 0.35)
        figure.line(outline, color)
        labels.append((y((base[-1] + above[-1]) / 2) + 4, color, name, costs[-1]))
        base = above
    figure.axes(x, y, [(c, tokens_label(c)) for c in (0, *CONTEXTS[-3:], 786432) if c],
                [(v, f"{v} µs") for v in range(0, int(top_value) + 1, step)])
    for depth, cost, _ in points:
        figure.dot(x(depth), y(1e6 * cost), "c0")
    line = [(x(d), y(facts["a"] + facts["b"] * d / 2**20)) for d in (0, CONTEXTS[-1])]
    figure.line(line, "c3", dashes="6 4")
    for at, color, name, cost in spread_labels(labels, 15, 330):
        figure.text(638, at, f"{name} {cost:.3g} µs", f"fill strong {color}")
    figure.text(18, 374, f"fit: {facts['a']:.3g} µs + {facts['b']:.3g} µs per 1M tokens of depth; "
                f"inside the gate {facts['gate']:.3g} µs per 1M, its arithmetic at the measured "
                f"peak {facts['floor']:.3g} µs", "small")
    figure.text(18, 390, f"{results['model']}, {results['threads']} threads, {results['cpu']}; "
                f"{results['date']}", "small")
    figure.write(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="with scaling.json")
    folder = parser.parse_args().folder
    results = json.loads((folder / "scaling.json").read_text())
    draw_scaling(results, folder / "scaling.svg")
    draw_cost(results, folder / "prefill_cost.svg")
    facts = cost_facts(results)
    print("{cpu}, {threads} threads, Quire {commit}, {date}.\n".format(**results))
    print("MoBA's prefill costs {a:.4g} µs per token, and {b:.4g} µs more per million tokens in front "
          "of it (fit; largest deviation {worst:.0%}). Time inside the gate alone grows by "
          "{gate:.4g} µs per million; the gate's FLOPs at the measured {peak:.0f} GFLOP/s would be "
          "{floor:.4g} µs.\n".format(**facts))
    print("| context | " + " | ".join(NAMES.get(s, s) for s in results["series"]) + " |")
    print("|---|" + "---|" * len(results["series"]))
    table = {s: {c: (t, m) for c, t, m in wholes(v)} for s, v in results["series"].items()}
    for context in CONTEXTS[::2]:
        cells = []
        for points in table.values():
            seconds, is_measured = points.get(context, (None, False))
            cells.append("–" if seconds is None else ("" if is_measured else "≈ ") +
                         f"{time_label(seconds)}, {rate_label(context / seconds)}")
        print(f"| {context:,} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
