"""What is made of chains, and when: ranges are decoded, and days built once these cover them.

Sensors follow what was committed, and so whatever is replaced reaches all that was made of it.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import dagster as dg
from dagster._core.storage.tags import RUN_KEY_TAG
from more_itertools import batched, split_when

from crypto_assets.assets.collect_ranges import RangeCollector
from crypto_assets.assets.dbt import undecoded
from crypto_assets.catalog import BlockRange, Chain, ChainRange
from crypto_assets.checks.asset_checks import guards_of
from crypto_assets.checks.results import NOT_CHECKED, refusals
from crypto_assets.lake import Lake, Proof, find_range
from crypto_assets.partitions import days_covered, ranges_of_day
from crypto_assets.publishing import published_at
from crypto_assets.warehouse import proofs_around

# The job over what no chain owns: days of all chains.
NETWORK = "network"

_RECORDS_PER_TICK = 1000
_PARTITIONS_PER_RUN = 31
_FIRST_PAUSE = timedelta(minutes=10)
_MOST_TRIES = 8
# What days of chains take from venues, and its place in the sensor's cursor.
_INDEX = dg.AssetKey(["crypto_duckdb", "venues"])
_VENUES = "venues"
_A_DAY = timedelta(days=1)

_Partition = TypeVar("_Partition", BlockRange, date)


def build_marts_job(chain: Chain, marts: dg.AssetSelection) -> "dg.UnresolvedAssetJobDefinition":
    """The job that decodes ranges; `marts` is all that is made of them by range."""
    return dg.define_asset_job(
        marts_of(chain),
        selection=marts,
        description=(
            f"Decodes block ranges of {chain.name} that are committed and checked: trades, pools, "
            "lending, stablecoins; and publishes them."
        ),
        tags={"chain": chain.name},
    )


def marts_of(chain: Chain) -> str:
    """Name of the job, and of the sensor, that decodes its ranges."""
    return f"{chain.name}_marts"


def build_network_job(marts: dg.AssetSelection) -> "dg.UnresolvedAssetJobDefinition":
    """The job over days of all chains; `marts` is all that is made of their raw ranges by day."""
    return dg.define_asset_job(
        NETWORK,
        selection=marts,
        description=(
            "Builds what is made of chains by UTC day, for days whose blocks are all there, and "
            "publishes it."
        ),
    )


def build_days_sensor(
    chains: Sequence[Chain],
    job: "dg.UnresolvedAssetJobDefinition",
    decoded: Sequence[str],
    marts: Sequence[str],
) -> dg.SensorDefinition:
    """Asks for the days that ranges, new or decoded again, cover.

    `decoded` are the tables that ranges are decoded into, `marts` those that days are made into.
    """

    @dg.sensor(
        name=f"{NETWORK}_days",
        job=job,
        minimum_interval_seconds=60,
        description=(
            "Builds a day of the chains once decoded ranges cover it from end to end, and again "
            "whenever one of them, or the venues' index prices of the day, was replaced."
        ),
    )
    def days(
        context: dg.SensorEvaluationContext, ranges: dg.ResourceParam[RangeCollector]
    ) -> dg.SensorResult:
        state: dict[str, Any] = json.loads(context.cursor or "{}")
        requests: list[dg.RunRequest] = []
        of_venues = _Seen(**state.get(_VENUES, {}))
        priced = set(_new_keys(context, _INDEX, of_venues))
        state[_VENUES] = asdict(of_venues)
        for chain in chains:
            seen = _Seen(**state.get(chain.name, {}))
            published = _new_keys(context, dg.AssetKey(["crypto_duckdb", chain.name]), seen)
            changed = _passed_ranges(ranges.lake, chain, published, seen)
            touched = days_around(ranges.lake, chain, changed)
            looked_at = sorted(map(date.fromisoformat, priced | seen.asked.keys()))
            for some in split_when(looked_at, lambda one, other: one + _A_DAY != other):
                touched |= covered_days(ranges.lake, chain, some[0], some[-1])
            states = _outdated_days(ranges.lake, chain, touched, decoded, marts)
            requests += _requests(context, chain, states, seen, lambda day: day + _A_DAY)
            state[chain.name] = asdict(seen)
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else "no range has made a further day whole",
            cursor=json.dumps(state),
        )

    return days


def build_marts_sensor(
    chain: Chain, job: "dg.UnresolvedAssetJobDefinition", marts: Sequence[str]
) -> dg.SensorDefinition:
    """Has ranges decoded; `marts` are the tables that they are decoded into."""

    @dg.sensor(
        name=marts_of(chain),
        job=job,
        minimum_interval_seconds=60,
        description=(
            f"Decodes block ranges of {chain.name} once they have passed their checks, and again "
            "whenever one was replaced."
        ),
    )
    def decoded(
        context: dg.SensorEvaluationContext, ranges: dg.ResourceParam[RangeCollector]
    ) -> dg.SensorResult:
        seen = _Seen(**json.loads(context.cursor or "{}"))
        raw = dg.AssetKey(["raw", chain.dataset("blocks")])
        keys = dict.fromkeys([*seen.asked, *_new_keys(context, raw, seen)])
        changed = _passed_ranges(ranges.lake, chain, keys, seen)
        waiting = {
            BlockRange.parse(proof.partition): " ".join(proof.group.values())
            for proof in changed
            if published_at(ranges.lake, marts, _part(chain, proof)) < proof.fetched_at
        }
        requests = _requests(context, chain, waiting, seen, lambda blocks: blocks.beside(1))
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else "every range that has passed its checks is decoded",
            cursor=json.dumps(asdict(seen)),
        )

    return decoded


@dataclass
class _Seen:
    """What a sensor remembers of a chain.

    How far materializations were read, ranges whose checks are not done, and of each partition
    that was asked for and is not made yet, by its key: in which state it was, how many times it was
    asked for, and the key of the last run.
    """

    storage_id: int = 0
    unchecked: list[str] = field(default_factory=list)
    asked: dict[str, tuple[str, int, str]] = field(default_factory=dict)


def _new_keys(context: dg.SensorEvaluationContext, asset: dg.AssetKey, seen: _Seen) -> list[str]:
    """Partitions of an asset that were made since the last tick, or were not checked then."""
    records = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset, after_storage_id=seen.storage_id),
        limit=_RECORDS_PER_TICK,
        ascending=True,
    ).records
    seen.storage_id = max([seen.storage_id, *(record.storage_id for record in records)])
    waiting, seen.unchecked = seen.unchecked, []
    return [*dict.fromkeys([*waiting, *(str(record.partition_key) for record in records)])]


def _passed_ranges(lake: Lake, chain: Chain, keys: Iterable[str], seen: _Seen) -> list[Proof]:
    """Of some ranges those that passed their checks; what is not checked yet is kept in mind."""
    passed = []
    for key in keys:
        proofs = find_range(lake, ChainRange(chain.name, BlockRange.parse(key)))
        if proofs is None:
            continue
        refused = refusals(lake, guards_of(chain), [proofs["blocks"]])
        if any(line.endswith(NOT_CHECKED) for line in refused):
            seen.unchecked.append(key)
        elif not refused:
            passed.append(proofs["blocks"])
    return passed


def _outdated_days(
    lake: Lake,
    chain: Chain,
    touched: Mapping[date, Sequence[Proof]],
    decoded: Sequence[str],
    marts: Sequence[str],
) -> dict[date, str]:
    """Days whose ranges or prices are newer than what was made of them, and the state they are in.

    `touched` are days with the blocks that they hold.
    """
    days: dict[date, str] = {}
    for day, of_day in touched.items():
        if refusals(lake, guards_of(chain), of_day) or undecoded(lake, chain, of_day, decoded):
            continue
        made_at = [published_at(lake, decoded, _part(chain, proof)) for proof in of_day]
        made_at.append(published_at(lake, ["markets.index_prices_1m"], day))
        if published_at(lake, marts, day) < max(made_at):
            days[day] = " ".join([*(str(p.group) for p in of_day), *map(str, made_at)])
    return days


def _requests(
    context: dg.SensorEvaluationContext,
    chain: Chain,
    states: Mapping[_Partition, str],
    seen: _Seen,
    following: Callable[[_Partition], _Partition],
) -> list[dg.RunRequest]:
    """Runs for partitions that wait to be made, given the state that each is in.

    Those that were not asked for in that state yet share runs. One whose run has ended without
    making it is asked for alone, so that none waits for another, after growing pauses.
    """
    asked = {str(one): seen.asked[str(one)] for one in states if str(one) in seen.asked}
    digests = {
        one: hashlib.sha256(state.encode()).hexdigest()[:12] for one, state in states.items()
    }
    new = sorted(one for one in states if asked.get(str(one), ("",))[0] != digests[one])
    requests = []
    for stretch in split_when(new, lambda one, other: following(one) != other):
        for some in batched(stretch, _PARTITIONS_PER_RUN):
            state = hashlib.sha256(" ".join(digests[one] for one in some).encode()).hexdigest()
            run_key = f"{chain.name} {some[0]} {some[-1]} {state[:12]}"
            requests.append(_run_over(some, run_key))
            asked |= {str(one): (digests[one], 1, run_key) for one in some}
    for one in sorted(set(states).difference(new)):
        digest, tries, run_key = asked[str(one)]
        if _is_due(context, run_key, tries):
            again = f"{chain.name} {one} {digest} {tries + 1}"
            requests.append(_run_over([one], again))
            asked[str(one)] = (digest, tries + 1, again)
    seen.asked = asked
    return requests


def _is_due(context: dg.SensorEvaluationContext, run_key: str, tries: int) -> bool:
    """Whether the run of a request has ended long enough ago to ask again.

    After ten minutes, then twenty, and so on up to a day; after the eighth time a person is told.
    """
    found = context.instance.get_run_records(dg.RunsFilter(tags={RUN_KEY_TAG: run_key}), limit=1)
    if not found or not found[0].dagster_run.is_finished:
        return False
    if tries >= _MOST_TRIES:
        context.log.error(f"given up after {tries} runs, of which {run_key!r} was the last")
        return False
    ended_at: datetime = datetime.fromtimestamp(found[0].end_time or 0, UTC)
    pause: timedelta = min(_FIRST_PAUSE * 2 ** (tries - 1), _A_DAY)
    return datetime.now(UTC) >= ended_at + pause


def _run_over(some: Sequence[_Partition], run_key: str) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=run_key,
        tags={
            "dagster/asset_partition_range_start": str(some[0]),
            "dagster/asset_partition_range_end": str(some[-1]),
        },
    )


def _part(chain: Chain, proof: Proof) -> ChainRange:
    return ChainRange(chain.name, BlockRange.parse(proof.partition))


def covered_days(lake: Lake, chain: Chain, first: date, last: date) -> dict[date, list[Proof]]:
    """Days from `first` to `last`, both inclusive, that a chain's committed ranges cover.

    Each with the proofs of the blocks that it holds.
    """
    held = proofs_around(lake, chain, [first, last])
    by_key = {proof.partition: proof for proof in held}
    return {
        day: [by_key[blocks.key] for blocks in ranges_of_day(day, held)]
        for day in days_covered(held)
        if first <= day <= last
    }


def days_around(lake: Lake, chain: Chain, of_blocks: Iterable[Proof]) -> dict[date, list[Proof]]:
    """Covered days that may be so only because some ranges are there, as `covered_days`.

    A range without a block of a day may still be the one that shows that nothing is missing at its
    edge, so the days beside its own count too.
    """
    windows = sorted(
        (proof.first_at.date() - _A_DAY, proof.last_at.date() + _A_DAY)
        for proof in of_blocks
        if proof.first_at is not None and proof.last_at is not None
    )
    return {
        day: of_day
        for some in split_when(windows, lambda one, other: one[1] + _A_DAY < other[0])
        for day, of_day in covered_days(
            lake, chain, some[0][0], max(last for _, last in some)
        ).items()
    }
