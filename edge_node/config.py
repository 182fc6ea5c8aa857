"""Settings of the edge node: one YAML file, validated into frozen models, unit in every key.

Each attribute's docstring is its description in the exported JSON Schema and in
docs/config-edge.md, which a test holds equal to these models.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from foundation.certificates import TlsSettings, is_loopback
from foundation.errors import ConfigError
from foundation.levels import Level
from foundation.settings import Settings

Score = Annotated[float, Field(ge=0.0, le=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Polygon = Annotated[tuple[tuple[Share, Share], ...], Field(min_length=3, max_length=64)]
_HOUR = r"([01][0-9]|2[0-3]):[0-5][0-9]"
TimeOfDay = Annotated[str, Field(pattern=rf"^{_HOUR}-({_HOUR}|24:00)$")]


class SourceSettings(Settings):
    """Where frames come from."""

    kind: str = "video"
    """video, images, v4l2, or an installed entry point of group hardcase.sources, such as line."""
    uri: str = ""
    """What to open: a video file, a folder of images, or a device such as /dev/video0."""
    pace: Literal["realtime", "unpaced"] = "realtime"
    """realtime: files play at their own rate and the newest frame wins. unpaced: each frame waits
    for the one before it, as fast as the frame lane goes; it counts as captured when the lane takes
    it, and none is dropped or coasted. A device is always realtime."""
    frame_rate_hz: float = Field(default=0.0, ge=0.0, le=1000.0)
    """Rate to play at, or to ask of the device; 0 takes the source's own."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Settings that only this kind of source understands."""


class DetectorSettings(Settings):
    """How the edge model runs."""

    bundle: str = ""
    """Path of the edge bundle, a directory or a .zip."""
    intra_op_threads: int = Field(default=1, ge=1, le=64)
    """Threads of one inference."""
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """ONNX Runtime execution providers, in order; a missing one is fatal, never replaced."""
    tuning: str = ""
    """Path of a tuning file of `model-workshop bench`. It replaces the two settings above, and is
    an error where it was measured for another bundle, processor or runtime; empty uses them."""
    warmup_frames: int = Field(default=5, ge=1, le=1000)
    """Inferences run before the first frame; they also seed the cost prediction."""


class DeadlineSettings(Settings):
    """When a frame is worth starting."""

    deadline_s: float = Field(default=0.033, gt=0.0, le=60.0)
    """From capture to publication; counted from the instant of capture."""
    cost_quantile: float = Field(default=0.8, ge=0.5, le=1.0)
    """The quantile of recent frame costs that is taken as the next frame's cost. At 0.8 a frame is
    given up where one in five like it would be late; higher gives up more that would make it."""
    cost_window_frames: int = Field(default=64, ge=8, le=4096)
    """How many recent costs are remembered."""
    coasts_max: int = Field(default=30, ge=1, le=10_000)
    """After at most this many coasted frames in a row one is started whatever its chances."""


class TrackSettings(Settings):
    """How detections become tracks."""

    score_start: float | None = Field(default=None, ge=0.0, le=1.0)
    """Calibrated score from which a detection may start a track; none takes, per class, the lower
    of the bundle's report threshold and the low end of its escalation band."""
    score_keep_ratio: float = Field(default=0.5, gt=0.0, le=1.0)
    """A detection above this share of the start score may still prolong a track."""
    min_detections: int = Field(default=3, ge=1, le=1000)
    """Detections that make a track known to anyone outside the tracker."""
    max_missed_frames: int = Field(default=8, ge=0, le=10_000)
    """Frames in a row in which the model looked for a track and did not find it, after which the
    track ends; coasted, dropped and failed frames do not count."""
    carried_frames_max: int = Field(default=240, ge=0, le=100_000)
    """Where everything moves as one, as on a conveyor, how many frames an object that blinks, or
    that only the cloud saw, is carried by that motion."""
    tracks_max: int = Field(default=512, ge=1, le=65_536)
    """Tracks alive at once; further detections start none, and are counted."""


class RiskSettings(Settings):
    """What is promised where the aim is a risk."""

    alpha: float = Field(default=0.1, gt=0.0, lt=1.0)
    """Most of a group's tracks (of a board, a picture, as the bundle was fitted) that the edge may
    keep to itself and be wrong about, as a share."""
    promise: Literal["expectation", "confidence"] = "confidence"
    """expectation: on average over calibrations. confidence: but for an unlucky one in 20."""


class NodeBudgetSettings(Settings):
    """What the cameras of one machine may spend together."""

    folder: str = ""
    """Folder of the file that this machine's edge nodes share; empty: each has its own budget."""
    requests_per_s: float = Field(default=20.0, ge=0.0, le=10_000.0)
    """Sustained rate of escalations of all cameras."""
    requests_burst: float = Field(default=20.0, ge=0.0, le=10_000.0)
    """Escalations of all cameras that may leave at once after a quiet time."""
    uplink_bytes_per_s: float = Field(default=64_000.0, ge=0.0)
    """Sustained rate of bytes of all cameras."""
    uplink_bytes_burst: float = Field(default=256_000.0, ge=0.0)
    """Bytes of all cameras that may leave at once after a quiet time."""


class AuditSettings(Settings):
    """The sample of what the edge was sure of, from which its silent errors are estimated."""

    audits_per_h: float = Field(default=60.0, ge=0.0, le=3600.0)
    """Escalations drawn by lot in an hour, paid from the budget; 0 draws none."""
    window_s: float = Field(default=86_400.0, ge=600.0, le=2_592_000.0)
    """Time that the estimate speaks about."""


class MissedSettings(Settings):
    """Where the edge looks for what its detector missed."""

    gaps: bool = True
    """Ask about the place of a track that was there and is not found."""
    background: bool = True
    """Ask about what differs from the background where nothing was detected; says nothing while
    the whole scene moves."""
    background_worth: float = Field(default=0.1, ge=0.0, le=10.0)
    """Gain that is expected where the background has changed beyond doubt."""
    novelty: bool = True
    """Trust scores less in frames unlike the ordinary ones of the bundle, and ask about such a
    frame once, if its policy was fitted for a cloud that takes whole frames; without effect where
    the bundle does not say what is ordinary."""
    novelty_worth: float = Field(default=0.5, ge=0.0, le=10.0)
    """Gain that is expected of a frame unlike the ordinary ones."""


class PolicySettings(Settings):
    """What is asked of the cloud, and how much."""

    rollout: Literal["off", "shadow", "enforce"] = "enforce"
    """off: nothing is asked. shadow: it is decided and counted what would be sent, and nothing is.
    enforce: it is sent."""
    aim: Literal["budget", "rate", "risk"] = "budget"
    """budget: the most gain for the bytes and requests allowed. rate: a share of the tracks.
    risk: whatever keeps the risk of what is not asked. Whatever the aim, the budgets hold."""
    ask_share: float = Field(default=0.2, gt=0.0, le=1.0)
    """Escalations per track that may be asked about, where the aim is a rate; a crop that shows
    several tracks counts once."""
    risk: RiskSettings = RiskSettings()
    """What is promised where the aim is a risk."""
    band_low: dict[str, Score] = Field(default_factory=dict)
    """Per label, the calibrated score from which the edge asks; absent labels as in the bundle."""
    band_high: dict[str, Score] = Field(default_factory=dict)
    """Per label, the calibrated score above which it is sure; absent labels as in the bundle."""
    class_cost: dict[str, Annotated[float, Field(ge=0.0, le=1000.0)]] = Field(default_factory=dict)
    """Per label, how much being wrong about it matters; absent labels as in the bundle, else 1."""
    live_share: float = Field(default=0.3, ge=0.0, le=1.0)
    """How much of a verdict's worth lies in the live result, which it corrects for as long as the
    object stays in view; the rest lies in the record, which it always corrects."""
    live_horizon_s: float = Field(default=5.0, gt=0.0, le=3600.0)
    """Time in view beyond which a correction is worth no more."""
    min_track_frames: int = Field(default=5, ge=1, le=10_000)
    """Frames a track must have lived before it is asked about, unless it is about to leave."""
    leaving_frames: int = Field(default=4, ge=0, le=1000)
    """A track that its motion carries out of the frame in this many frames is about to leave."""
    cooldown_s: float = Field(default=3.0, ge=0.0, le=86_400.0)
    """Before a track is asked about again whose escalation ended without an answer. A track with
    an answer is asked about again only when the evidence has changed."""
    expiry_s: float = Field(default=5.0, gt=0.0, le=86_400.0)
    """From capture to the instant at which a verdict is of no use."""
    requests_per_s: float = Field(default=20.0, ge=0.0, le=10_000.0)
    """Sustained rate of escalations."""
    requests_burst: float = Field(default=20.0, ge=0.0, le=10_000.0)
    """Escalations that may leave at once after a quiet time."""
    uplink_bytes_per_s: float = Field(default=64_000.0, ge=0.0)
    """Sustained rate of bytes."""
    uplink_bytes_burst: float = Field(default=256_000.0, ge=0.0)
    """Bytes that may leave at once after a quiet time."""
    encode_share: float = Field(default=0.25, gt=0.0, le=16.0)
    """Share of one processor core that encoding may take."""
    node: NodeBudgetSettings = NodeBudgetSettings()
    """What the cameras of one machine may spend together."""
    audit: AuditSettings = AuditSettings()
    """The sample of what the edge was sure of."""
    missed: MissedSettings = MissedSettings()
    """Where the edge looks for what its detector missed."""


class CropSettings(Settings):
    """What is cut out of the frame, and how it is compressed."""

    margin: float = Field(default=2.0, ge=1.0, le=10.0)
    """Side of the crop as a multiple of the side of the proposal's box."""
    side_min_px: int = Field(default=192, ge=16, le=4096)
    """Shortest side of a crop in source pixels where its level has none; at most the frame's."""
    per_frame_max: int = Field(default=8, ge=1, le=1024)
    """Tracks of one frame that are asked about at most, those inside the same crops not counted;
    the others come with the frames that follow."""
    levels: tuple[str, ...] = ()
    """Ways to cut and compress a crop that may be chosen from, such as webp80, avif45@0.5, png or
    webp80/96: format, quality, the scale to which it is shrunk, and its shortest side. Empty: those
    of the bundle's gain model, or webp80 where it has none."""

    @field_validator("levels")
    @classmethod
    def _are_levels(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        for text in levels:
            try:
                Level.parse(text)
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return levels


class FusionSettings(Settings):
    """How a verdict is reconciled with what the edge saw."""

    verdict_score_min: float = Field(default=0.0, ge=0.0, le=1.0)
    """The cloud's detections below this score are ignored; the escalator already leaves out what
    its own bundle would not report."""
    centre_distance_max: float = Field(default=0.75, gt=0.0, le=4.0)
    """A verdict's box belongs to a proposal when their centres are at most this many box sides
    apart."""
    border_px: float = Field(default=2.0, ge=0.0, le=64.0)
    """A further object this near to the crop's border is taken as cut and not added, unless the
    frame ends there."""


class EscalatorSettings(Settings):
    """The way to the cloud escalator."""

    address: str = Field(default="", pattern=r"^$|^[^\s/]+:[0-9]{1,5}$")
    """host:port; empty runs the edge alone."""
    tls: TlsSettings = TlsSettings()
    """How the edge node proves who it is, and which escalators it believes."""
    plain_text: bool = False
    """Connect off loopback even without TLS, where anyone may read and answer."""
    connect_timeout_s: float = Field(default=6.0, gt=0.0, le=300.0)
    """Deadline of the first call on a new connection: with TLS it takes four round trips."""
    stream_lifetime_s: float = Field(default=600.0, gt=0.0, le=86_400.0)
    """Deadline of one stream; a new one follows it, so that load moves to new servers."""
    backoff_min_s: float = Field(default=0.2, gt=0.0, le=300.0)
    """First pause before a new connection; it doubles, with jitter."""
    backoff_max_s: float = Field(default=10.0, gt=0.0, le=3600.0)
    """Longest pause before a new connection to an escalator that refuses this one."""
    backoff_unreached_max_s: float = Field(default=0.5, gt=0.0, le=3600.0)
    """Longest pause where nobody answers: that costs a packet, and a link that is back is used."""
    keepalive_s: float = Field(default=6.0, ge=1.0, le=3600.0)
    """A silent connection is probed this often."""
    keepalive_timeout_s: float = Field(default=3.0, ge=0.5, le=300.0)
    """A probe unanswered for this long ends the connection."""
    in_flight_max: int = Field(default=16, ge=1, le=1024)
    """Escalations sent and not yet answered."""
    message_bytes_max: int = Field(default=4 << 20, ge=1024, le=64 << 20)
    """Largest verdict accepted, and largest escalation sent."""

    @property
    def is_plain_off_loopback(self) -> bool:
        """Whether crops would leave this machine unprotected."""
        host = self.address.rpartition(":")[0]
        return bool(host) and not (self.tls.given or is_loopback(host))

    @model_validator(mode="after")
    def _check_protected(self) -> Self:
        if self.is_plain_off_loopback and not self.plain_text:
            raise ValueError(
                f"address ({self.address}) is on another machine and needs tls.ca, "
                "tls.certificate and tls.key (`hardcase-certs` makes them), or plain_text: true"
            )
        return self


class EgressSettings(Settings):
    """What may leave this site, of this camera's pictures."""

    nothing: bool = False
    """Nothing leaves: what would be sent is decided, encoded, counted as withheld and dropped."""
    zones_never: tuple[Polygon, ...] = ()
    """Parts of the frame that are never sent: polygons of corners [x, y], in shares of the frame's
    width and height from its top left. They are grey in whatever leaves."""
    labels_never: tuple[str, ...] = ()
    """Labels of objects that are never sent. They are grey in whatever shows them."""
    blur: dict[str, Literal["whole", "head"]] = Field(default_factory=dict)
    """Per label, what is blurred of such objects in whatever leaves: the whole, or the upper third
    of the box, where a standing person's face is."""
    crop_side_max_px: int = Field(default=100_000, ge=16, le=100_000)
    """Longest side of a crop that may leave."""
    crop_bytes_max: int = Field(default=64 << 20, ge=256, le=64 << 20)
    """Most bytes of a crop that may leave."""
    ledger: str = ""
    """Folder of the ledger of what has left, of this camera alone, one file a day; what cannot be
    entered there does not leave. Empty keeps none."""


class SpoolSettings(Settings):
    """Where escalations wait for the uplink: fresh ones in memory, all of them on disk."""

    folder: str = ""
    """Folder of the durable spool, of this camera alone. Empty: escalations live in memory, for as
    long as their verdict can correct the live result, and are lost with the process."""
    key_file: str = ""
    """File with the key that encrypts crops and opinions on disk: 64 hexadecimal digits, as
    `openssl rand -hex 32` writes them. Empty: they are not encrypted."""
    escalations_max: int = Field(default=100_000, ge=16, le=10_000_000)
    """Escalations on disk, ended ones included; further ones displace the least valuable."""
    bytes_max: int = Field(default=1 << 30, ge=1 << 20)
    """Bytes of crops on disk, ended ones included; further ones displace the least valuable."""
    age_max_s: float = Field(default=604_800.0, ge=60.0, le=31_536_000.0)
    """After this an escalation on disk expires, and an ended one is forgotten."""
    backlog_share: float = Field(default=0.1, ge=0.0, le=0.9)
    """Share of policy.uplink_bytes_per_s and of its burst that escalations may take which are no
    longer fresh; fresh ones have the rest. Without a folder fresh ones have all of it. What the
    cameras of a machine share (policy.node) is for fresh ones."""
    windows: tuple[TimeOfDay, ...] = ()
    """Times of the local day in which the backlog is sent, such as 22:00-06:00; none: always."""
    write_queue_max: int = Field(default=256, ge=1, le=65_536)
    """Escalations waiting for a slow disk; further ones are sent while fresh and not kept."""
    fresh_max: int = Field(default=256, ge=1, le=65_536)
    """Fresh escalations in memory, waiting and in flight together."""
    fresh_bytes_max: int = Field(default=8 << 20, ge=1024)
    """Bytes of fresh crops in memory."""
    encode_queue_max: int = Field(default=32, ge=1, le=4096)
    """Crops waiting for the encoder."""

    @model_validator(mode="after")
    def _has_something_to_encrypt(self) -> Self:
        if self.key_file and not self.folder:
            raise ValueError("key_file encrypts a spool, and no folder is given for one")
        return self


class ResultSettings(Settings):
    """Where result lines go."""

    path: str = "-"
    """A file, which is continued, or - for standard output; a pipe must have its reader already."""
    file_bytes_max: int = Field(default=0, ge=0)
    """A file of this size is set aside, the last one as PATH.1, and a new one begun; 0: never."""
    files_max: int = Field(default=4, ge=2, le=10_000)
    """Files that are kept then, the present one counted; the oldest goes."""
    queue_max: int = Field(default=1024, ge=1, le=1_000_000)
    """Records waiting for a slow disk or pipe; further ones are dropped and counted."""


class TelemetrySettings(Settings):
    """Where /metrics, /healthz and /readyz are served."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=9101, ge=0, le=65_535)
    """Port to listen on; 0 takes a free one."""


class EdgeSettings(Settings):
    """Everything the edge node can be told."""

    site: str = Field(default="site", min_length=1, max_length=128)
    """Name of this installation; the escalator keys its fairness and its records by it."""
    camera: str = Field(default="camera", min_length=1, max_length=128)
    """Name of this camera."""
    drain_s: float = Field(default=5.0, ge=0.0, le=600.0)
    """At the end, how long verdicts on the way are waited for."""
    source: SourceSettings = SourceSettings()
    """Where frames come from."""
    detector: DetectorSettings = DetectorSettings()
    """How the edge model runs."""
    deadline: DeadlineSettings = DeadlineSettings()
    """When a frame is worth starting."""
    tracks: TrackSettings = TrackSettings()
    """How detections become tracks."""
    policy: PolicySettings = PolicySettings()
    """What is asked of the cloud, and how much."""
    crop: CropSettings = CropSettings()
    """What is cut out of the frame."""
    fusion: FusionSettings = FusionSettings()
    """How verdicts are reconciled."""
    escalator: EscalatorSettings = EscalatorSettings()
    """The way to the cloud escalator."""
    egress: EgressSettings = EgressSettings()
    """What may leave this site."""
    spool: SpoolSettings = SpoolSettings()
    """Where escalations wait."""
    results: ResultSettings = ResultSettings()
    """Where result lines go."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """Where metrics are served."""

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        way = self.escalator
        if way.backoff_min_s > min(way.backoff_max_s, way.backoff_unreached_max_s):
            raise ValueError("escalator.backoff_min_s is larger than a longest pause")
        return self
