"""What a quantization came to: for the model card, and in words for the person who asked."""

from __future__ import annotations

from foundation.settings import Settings

_SENSITIVITIES_SHOWN = 10


class Size(Settings):
    """Bytes of the graph, before and after."""

    float_bytes: int
    int8_bytes: int


class Pace(Settings):
    """Median processor seconds of one inference on one thread, measured in turns."""

    float_s: float
    int8_s: float
    all_int8_s: float | None = None
    """Of a version in which only torn nodes are float: the difference is what floats cost."""


class TrialRow(Settings):
    """One version that was tried."""

    calibrator: str
    float_blocks: int
    agreement: float
    map50_95: float | None


class KeptRow(Settings):
    """Nodes that stayed float, and why."""

    place: str
    nodes: int
    operators: str
    why: str


class QuantizationReport(Settings):
    """What a quantization came to. Shares are in 0..1."""

    mode: str
    size: Size
    pace: Pace
    agreement: float
    map50_95_float: float | None = None
    map50_95: float | None = None
    calibrator: str | None = None
    calibrating_images: int = 0
    held_out_images: int
    trials: tuple[TrialRow, ...] = ()
    kept_float: tuple[KeptRow, ...] = ()
    blocks: int = 0
    most_sensitive: tuple[tuple[str, float], ...] = ()

    def lines(self) -> list[str]:
        """For a terminal, one fact a line."""
        size, pace = self.size, self.pace
        share = size.int8_bytes / size.float_bytes
        beside = f"{1e3 * pace.int8_s:.1f} ms, {1e3 * pace.float_s:.1f} ms in float"
        faster = f"{pace.float_s / pace.int8_s:.2f} times as fast"
        lines = [
            f"size       {size.int8_bytes:,} bytes, {share:.0%} of {size.float_bytes:,} in float",
            f"pace       {beside}: {faster} (processor time, one thread, in turns)",
        ]
        if pace.all_int8_s is not None:
            price = pace.int8_s / pace.all_int8_s - 1.0
            lines.append(f"           what stayed float costs {price:+.0%} of the time")
        lines.append(
            f"agreement  {self.agreement:.3f} with the float model on {self.held_out_images} "
            "held-out images"
        )
        if self.map50_95 is not None and self.map50_95_float is not None:
            lines.append(
                f"mAP50-95   {100 * self.map50_95_float:.1f} in float, {100 * self.map50_95:.1f} "
                f"now: {100 * (self.map50_95 - self.map50_95_float):+.1f} points"
            )
        return lines + self._trial_lines() + self._kept_lines()

    def _trial_lines(self) -> list[str]:
        if not self.trials:
            return []
        lines = ["calibrator            float blocks  agreement  mAP50-95"]
        for row in self.trials:
            score = "-" if row.map50_95 is None else f"{100 * row.map50_95:.1f}"
            chosen = (row.calibrator, row.agreement) == (self.calibrator, self.agreement)
            lines.append(
                f"  {row.calibrator:<20}{row.float_blocks:>12}  {row.agreement:>9.3f}  {score:>8}"
                + ("  chosen" if chosen else "")
            )
        return lines

    def _kept_lines(self) -> list[str]:
        lines = [f"stayed float ({len(self.kept_float)} places)"] if self.kept_float else []
        lines += [
            f"  {row.place}: {row.nodes} nodes ({row.operators}); {row.why}"
            for row in self.kept_float
        ]
        if self.most_sensitive:
            listed = ", ".join(
                f"{name} {harm:.2f}" for name, harm in self.most_sensitive[:_SENSITIVITIES_SHOWN]
            )
            lines.append(f"harm when alone in INT8, worst of {self.blocks} blocks: {listed}")
        return lines
