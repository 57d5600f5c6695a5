"""What a benchmark says: one line of the table, and the scale it was measured at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """How much work is measured. Limits are those of DESIGN's sizes, `full`, and judged only there.

    `runs` are the days of the two runs whose difference is the cost of one more; `histories` the
    days of the two warehouses that one more day is added to; `ranges` the block ranges of the two
    homes that the newest of them are run in.
    """

    archive_trades: int
    blocks: int
    candle_days: int
    trades_per_day: int
    runs: tuple[int, int]
    histories: tuple[int, int]
    ranges: tuple[int, int]
    repeats: int
    is_judged: bool = False


SCALES = {
    "full": Scale(
        5_000_000, 1_000, 30, 170_000, (3, 23), (10, 1_000), (10, 25_000), repeats=3, is_judged=True
    ),
    "small": Scale(500_000, 100, 10, 20_000, (2, 7), (5, 50), (10, 1_000), repeats=2),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table. `figure` is what is held against the limit, None without one."""

    name: str
    ours: str
    peer: str = ""
    figure: str = ""
    limit: str = ""
    is_within: bool | None = None


def ratio(name: str, ours: float, peer: float, peer_name: str, *, at_most: float) -> Line:
    """Our seconds over the peer's."""
    found = ours / peer
    return Line(
        name,
        f"{ours:.2f} s",
        f"{peer_name} {peer:.2f} s",
        f"{found:.2f} x",
        f"<= {at_most} x",
        found <= at_most,
    )


def speedup(name: str, ours: float, peer: float, peer_name: str, *, at_least: float) -> Line:
    """The peer's seconds over ours."""
    found = peer / ours
    return Line(
        name,
        f"{ours:.2f} s",
        f"{peer_name} {peer:.1f} s",
        f"{found:.1f} x faster",
        f">= {at_least:g} x",
        found >= at_least,
    )


def rate(
    name: str, ours: float, peer: float, peer_name: str, *, unit: str, at_least: float
) -> Line:
    """Our work per second over the peer's."""
    found = ours / peer
    return Line(
        name,
        f"{ours:,.0f} {unit}",
        f"{peer_name} {peer:,.0f} {unit}",
        f"{found:.2f} x",
        f">= {at_least:g} x",
        found >= at_least,
    )


def seconds(name: str, ours: float, *, at_most: float) -> Line:
    """Our seconds alone."""
    return Line(name, f"{ours:.3f} s", "", f"{ours:.3f} s", f"<= {at_most} s", ours <= at_most)


def note(name: str, ours: str, peer: str = "") -> Line:
    """A figure without a limit, indented below the line that it explains."""
    return Line(f"  {name}", ours, peer)
