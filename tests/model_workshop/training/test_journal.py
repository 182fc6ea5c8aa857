from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from model_workshop.training.journal import CURVE, LOG, Journal, draw_curve

LINES = [
    {"step": 100.0, "rate": 0.003, "heatmap_loss": 2.5, "box_loss": 0.9, "imitation_loss": 0.0},
    {"step": 200.0, "rate": 0.001, "heatmap_loss": 1.5, "box_loss": 0.7, "imitation_loss": 0.0}
    | {"val_f1": 0.625},
]


def _texts(svg: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter() if node.text]


def test_curve_names_every_line_with_its_last_value() -> None:
    """Losses, validation and rate are drawn; a loss that is nothing throughout is not."""
    texts = _texts(draw_curve(LINES))
    for label in ("heatmap loss 1.5", "box loss 0.7", "val f1 0.625", "rate 0.001"):
        assert label in texts
    assert not any(text.startswith("imitation") for text in texts)


def test_first_line_alone_is_drawn() -> None:
    """A run of one stretch has a curve, though it has no slope."""
    assert "step 100" in _texts(draw_curve(LINES[:1]))


def test_stretch_that_was_trained_twice_counts_once(tmp_path: Path) -> None:
    """After a cut the log has a step twice; the later line is true."""
    journal = Journal(tmp_path)
    for line in (*LINES, LINES[1] | {"box_loss": 0.6}):
        journal.add(line)
    assert [line["step"] for line in journal.lines()] == [100, 200]
    assert journal.lines()[1]["box_loss"] == 0.6
    assert len((tmp_path / LOG).read_text(encoding="utf-8").splitlines()) == 3
    assert "box loss 0.6" in _texts((tmp_path / CURVE).read_text(encoding="utf-8"))
