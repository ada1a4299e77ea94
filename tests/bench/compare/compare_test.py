"""What the comparison concludes from figures that are known."""

import json
import pathlib
import xml.etree.ElementTree

import pytest

import compare
import contenders
import plot_scaling
import serve


def line(own, peers, **other):
    return {"shape": "tiny", "weights": "bf16", "kv": "bf16", "attention": "moba", "depth": 0,
            "mode": "decode", "tokens": 32,
            "cpu": "A", "threads": 2, "commit": "1234", "date": "2026-01-01", "rates": {"quire": own, **peers}, **other}


def test_seconds_of_every_program():
    assert contenders.seconds_of([{"samples_ns": [2e9, 4e9]}]) == [2, 4]
    assert contenders.seconds_of({"results": [{"seconds": [3.5]}]}) == [3.5]
    assert contenders.seconds_of({"results": [{"seconds": {"median": 1, "all": [1, 2]}}]}) == [1, 2]
    google = {"benchmarks": [{"real_time": 250.0, "time_unit": "ms"}]}
    assert contenders.seconds_of(google) == [0.25]


def test_a_case_that_was_left_out_is_no_figure():
    with pytest.raises(RuntimeError, match="memory"):
        contenders.seconds_of({"results": [{"skipped": "needs more memory"}]})


def test_the_better_peer_decides():
    lines = {
        "1b-bf16-decode": line([10, 12, 11], {"a": [8], "b": [10]}),  # 1.1 of b; target 1.05
        "1b-int8-decode": line([11], {"a": [10], "b": [9]}),  # 1.1 of a; target 1.15
    }
    rows = compare.report({"lines": lines}).splitlines()[4:]
    assert [row.split("|")[3].split(":")[0].strip() for row in rows] == ["b", "a"]
    assert [row.split("|")[4].strip() for row in rows] == ["1.1×", "1.1×"]
    assert [row.split("|")[6].strip() for row in rows] == ["yes", "no"]


def test_a_slower_chunk_of_the_peer_is_compared_by_tokens():
    short = contenders.Contender("peer", (), 128)
    assert contenders.rate(short, {"results": [{"seconds": [4.0]}]}) == 32


def series(cost, deepest=1 << 20):
    """Chunks of 10 tokens whose cost per token is a function of the depth."""
    depths = [0, *(d for d in plot_scaling.CONTEXTS if d <= deepest)]
    return {"chunks": {str(d): {
        "depth": d, "tokens": 10, "seconds": [10 * cost(d)],
        "op_seconds": {"matmul": 6 * cost(0), "moba_gate": 10 * (cost(d) - cost(0))},
        "work": {"gate_flops": 10 * 32.0 * d}} for d in depths}}


def test_sums_of_chunks_are_exact_for_straight_lines():
    points = plot_scaling.chunks(series(lambda d: 2e-6 + 1e-9 * d))
    for context in (4096, 10000, 1 << 20):
        exact = 2e-6 * context + 1e-9 * context**2 / 2
        assert plot_scaling.sum_of_chunks(points, context) == pytest.approx(exact)


def test_a_measured_whole_beats_the_sum():
    both = series(lambda d: 1e-6) | {"whole": {"16384": {"seconds": [7.0]}}}
    wholes = {c: (s, measured) for c, s, measured in plot_scaling.wholes(both)}
    assert wholes[16384] == (7.0, True)
    assert wholes[65536] == (pytest.approx(0.065536), False)


def test_no_context_beyond_the_deepest_chunk_is_claimed():
    contexts = [c for c, _, _ in plot_scaling.wholes(series(lambda d: 1e-6, deepest=65536))]
    assert max(contexts) == 65536


def test_the_fit_finds_the_gate():
    per_million = 50e-6
    results = {"series": {"moba": series(lambda d: 20e-6 + per_million * d / 2**20)},
               "peaks": {"gflops": 400.0}}
    facts = plot_scaling.cost_facts(results)
    assert facts["a"] == pytest.approx(20)
    assert facts["b"] == pytest.approx(50)
    assert facts["gate"] == pytest.approx(50)
    assert facts["floor"] == pytest.approx(32 * 2**20 / 400e3)
    assert facts["worst"] < 1e-6


def test_the_plots_are_well_formed(tmp_path: pathlib.Path):
    results = {"series": {"moba": series(lambda d: 2e-5 + 1e-11 * d),
                          "ik_llama.cpp": series(lambda d: 5e-5 + 1e-7 * d)},
               "peaks": {"gflops": 400.0}, "model": "m", "threads": 2,
               "cpu": "A & B", "date": "2026-01-01"}
    plot_scaling.draw_scaling(results, tmp_path / "a.svg")
    plot_scaling.draw_cost(results, tmp_path / "b.svg")
    for name in ("a.svg", "b.svg"):
        words = " ".join(xml.etree.ElementTree.parse(tmp_path / name).getroot().itertext())
        assert "A & B" in words


def test_the_serving_table_counts_failures_and_takes_medians():
    def run(rate, failed):
        spread = {"p50": 0.1, "p95": 0.2, "p99": 0.3}
        return {"completion_tokens_per_second": rate, "failed": failed, "requests": 32,
                "first_token_seconds": spread, "inter_token_seconds": spread}

    runs = {"quire": [run(3000, 0), run(3200, 0), run(9000, 0)], "peer": [run(1000, 1)]}
    text = serve.report({"short-tiny": {"runs": json.loads(json.dumps(runs))}})
    assert "3.20× the best peer" in text
    assert "1 of 32" in text and "0 of 96" in text
