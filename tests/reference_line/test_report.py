from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from edge_node.metrics import EdgeMetrics
from edge_node.values import Effect, EscalationOutcome, FrameOutcome
from foundation.manifest import ClassThresholds, Thresholds
from reference_line.analysis import Analysis
from reference_line.charts import Bar, bars_over_time, grouped_bars, nice_ceiling, scatter
from reference_line.evaluation import edge_claims, evaluate, final_claims, run_truth
from reference_line.gallery import build_gallery
from reference_line.line import Line
from reference_line.live import ResultsTail, Sample, parse_sample
from reference_line.report import render_page, timelines
from reference_line.summary import (
    count_escalations,
    describe_evaluation,
    gap_recovered,
    measure,
)
from reference_line.terminal import headline
from reference_line.video import draw_video
from tests.support.line_run import record_run, samples_of

FRAMES = 40
SEED = 5
THRESHOLDS = Thresholds(
    default=ClassThresholds(report=0.5, escalate_low=0.1, escalate_high=0.9), classes={}
)


@pytest.fixture(scope="module")
def line() -> Line:
    """A line that has rendered its boards."""
    return Line(SEED)


@pytest.fixture(scope="module")
def analysis(line: Line) -> Analysis:
    """A judged run without processes and models; the cloud is as good as what stood in the end."""
    records = record_run(line, FRAMES)
    samples = samples_of(records)
    alone = edge_claims(records.tracks, THRESHOLDS, detections_min=3)
    final = final_claims(records.tracks)
    truth = run_truth(line, FRAMES - 1, [*alone, *final])
    edge, hybrid = evaluate(alone, truth), evaluate(final, truth)
    summary = {
        "seed": SEED,
        "duration_s": 1.3,
        "with_escalator": True,
        "deadline_s": 0.033,
        **measure(records, samples[-1]),
        "uplink_budget_bytes_per_s": 64_000.0,
        "all_frames_jpeg_bytes": 7_000_000,
        "all_frames_jpeg": {"quality": 85, "frames_measured": 2},
        "defects": len(truth.defects),
        "edge_only": describe_evaluation(edge),
        "hybrid": describe_evaluation(hybrid),
        "cloud_only": describe_evaluation(hybrid),
        "gap_recovered": gap_recovered(edge.overall, hybrid.overall, hybrid.overall),
        "bundles": {
            side: {"name": f"{side}-reference", "version": "1", "digest": "0" * 64}
            for side in ("edge", "cloud")
        },
    }
    return Analysis(records, samples, truth, edge, hybrid, hybrid, summary)


@pytest.fixture(scope="module")
def page(analysis: Analysis, line: Line) -> str:
    """The report of that run."""
    return render_page(
        analysis.summary,
        headline(analysis.summary),
        timelines(analysis.records, analysis.samples, analysis.summary),
        build_gallery(analysis, line, cards_max=3),
    )


def test_the_page_asks_nobody_for_anything(page: str) -> None:
    """Everything it shows is inside it: no address, no script, pictures as data."""
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith("data:image/") for source in sources)


def test_the_page_names_every_class_system_and_bundle(page: str) -> None:
    """The table, the figures and where they come from are on it."""
    for words in ("spurious copper", "edge alone", "with escalation", "cloud on every proposal"):
        assert words in page
    assert "0" * 64 in page


def test_every_chart_is_well_formed(analysis: Analysis) -> None:
    """Drawings parse as XML, so no browser has to guess."""
    charts = timelines(analysis.records, analysis.samples, analysis.summary)
    for drawing in charts.values():
        assert ET.fromstring(drawing).tag == "svg"


def test_the_gallery_groups_every_verdict_once(analysis: Analysis, line: Line) -> None:
    """Each correction is in exactly one of the three groups about verdicts, with both opinions."""
    groups = {g.title: g for g in build_gallery(analysis, line, cards_max=100)}
    verdicts = ("Set right by the cloud", "Wrong in spite of the verdict", "Agreed")
    total = sum(groups[title].total for title in verdicts)
    assert total == len(analysis.records.corrections)
    for title in verdicts:
        for card in groups[title].cards:
            assert [name for name, _ in card.facts] == ["edge", "cloud", "truth", "after"]


def test_the_gallery_shows_every_mistake_that_stands(analysis: Analysis, line: Line) -> None:
    """False alarms and missed defects are as many as the table says."""
    groups = {g.title: g for g in build_gallery(analysis, line, cards_max=2)}
    assert groups["Missed in the end"].total == analysis.hybrid.overall.missed
    assert groups["Reported in the end, and wrong"].total == analysis.hybrid.overall.wrong
    assert all(len(group.cards) <= 2 for group in groups.values())


def test_the_video_is_h264_of_every_second_frame(analysis: Analysis, tmp_path: Path) -> None:
    """Made from frames rendered again; dropped ones are shown, too."""
    path = tmp_path / "line.mp4"
    draw_video(path, SEED, analysis.records)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert sum(1 for _ in container.decode(stream)) == FRAMES // 2


def test_a_run_is_measured_by_outcome(analysis: Analysis) -> None:
    """Outcomes sum to the captured frames; dropped frames have no latency."""
    summary = analysis.summary
    assert sum(summary["frames"].values()) == FRAMES
    assert summary["frames"]["dropped"] == 1
    assert summary["deadline_hit_share"] == pytest.approx((FRAMES - 3) / FRAMES)
    latency = summary["frame_latency_s"]
    assert latency["p50"] <= 0.014 < latency["p99"] <= 0.04


def test_each_escalation_is_counted_once(analysis: Analysis) -> None:
    """Counters and records tell of the same escalations; neither adds to the other."""
    escalations = analysis.summary["escalations"]
    asked = sum(track.escalation is not None for track in analysis.records.tracks)
    assert escalations["by_outcome"]["answered"] == asked
    assert escalations["by_outcome"]["shed"] == 1
    assert sum(escalations["by_reason"].values()) == escalations["total"] == asked + 1


def test_escalations_that_ended_last_are_known_from_the_records(line: Line) -> None:
    """The metrics may have been read before the last verdict came."""
    records = record_run(line, 10)
    early = Sample(0.1, {}, {("uncertain", "answered"): 1}, 1, 0, {})
    late = samples_of(records)[-1]
    assert (
        count_escalations(records, early)["uncertain", "answered"]
        == (count_escalations(records, late)["uncertain", "answered"])
    )


def test_forgone_escalations_are_not_shown_as_unanswered(analysis: Analysis) -> None:
    """They were never sent; the one that was shed is shown."""
    records, summary = analysis.records, analysis.summary
    early, late = samples_of(records)
    forgone = {**late.escalations, ("uncertain", "forgone"): 7}
    chart = timelines(records, [early, replace(late, escalations=forgone)], summary)["escalations"]
    assert re.findall(r"(\d+) unanswered", chart).count("1") == 1
    assert not set(re.findall(r"(\d+) unanswered", chart)) - {"0", "1"}


def test_samples_are_read_from_real_metrics() -> None:
    """The names are those that an edge node exposes."""
    registry = CollectorRegistry()
    metrics = EdgeMetrics(registry, "line")
    metrics.frames[FrameOutcome.ON_TIME].inc(3)
    metrics.verdicts[Effect.REFUTED].inc(2)
    metrics.escalations["leaving", EscalationOutcome.SHED].inc(4)
    metrics.uplink_bytes.inc(1234)
    metrics.storage.fresh.set(5)
    sample = parse_sample(generate_latest(registry).decode(), 1.5)
    assert sample.frames["on_time"] == 3
    assert sample.verdicts["refuted"] == 2
    assert sample.escalation_outcomes["shed"] == 4
    assert sample.escalation_reasons["leaving"] == 4
    assert (sample.uplink_bytes, sample.waiting) == (1234, 5)


def test_a_growing_file_is_followed_line_by_line(tmp_path: Path) -> None:
    """A line that is not finished yet waits for the next look; an absent file is no error."""
    path = tmp_path / "results.jsonl"
    tail = ResultsTail(path)
    tail.follow()
    text = (
        '{"type":"frame","sequence":0,"captured_at_ns":1,"outcome":"on_time","latency_s":0.01,'
        '"tracks":[]}\n'
    )
    path.write_text(text + text[:30])
    tail.follow()
    assert tail.frames == {"on_time": 1}
    with path.open("a") as file:
        file.write(text[30:])
    tail.follow()
    assert tail.frames == {"on_time": 2}
    assert tail.latencies_s == [0.01, 0.01]


@given(st.floats(1e-6, 1e9))
def test_a_nice_ceiling_is_above_and_near(value: float) -> None:
    """An axis ends at a round number that is at most 2.5 times what it has to show."""
    ceiling = nice_ceiling(value)
    assert value * 0.99999 <= ceiling <= value * 2.5 * 1.00001


def test_charts_of_nothing_are_drawings() -> None:
    """A run without escalations has charts, too."""
    for drawing in (
        scatter({"good": []}, x_max=1.0, y_max=1.0, label=str),
        bars_over_time([[]], step_s=1.0, x_max=1.0, y_max=1.0, label=str),
        grouped_bars([("none", [Bar("edge", 0.0, "<nothing>")])]),
    ):
        assert ET.fromstring(drawing).tag == "svg"
