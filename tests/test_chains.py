"""A chain from the command line, end to end: ranges, days, faults, reorganisations and kills."""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from command import kill, run, start, write_catalog

from crypto_assets.catalog.files import PACKAGED
from crypto_assets.settings import PROJECT_ROOT

pytestmark = pytest.mark.timeout(900)

FIRST = 21_516_000
DAY = ("--from", "2024-12-31", "--to", "2024-12-31")


def house(home: Path, size: int = 500) -> Path:
    """A data folder whose catalogue has the sandbox chain in ranges of that size."""
    write_catalog(home)
    chains = yaml.safe_load((PACKAGED / "chains.yaml").read_text(encoding="utf-8"))
    chains["ethereum"] |= {"first_block": FIRST, "range_size": size}
    (home / "catalog" / "chains.yaml").write_text(json.dumps(chains))
    return home


def query(home: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(home / "sandbox" / "crypto.duckdb", read_only=True) as connection:
        return connection.execute(sql).fetchall()


def state(home: Path) -> dict[str, Any]:
    """Every committed range by content, and what is made of them."""
    return {
        "proofs": query(
            home,
            "select dataset, partition, status, row_count, content_digest, first_hash, last_hash "
            "from raw.proofs order by all",
        ),
        "blocks": query(home, "select count(*), bit_xor(hash(b)) from raw.chain_blocks b"),
        "logs": query(home, "select count(*), bit_xor(hash(l)) from raw.chain_logs l"),
        "days": query(home, "from network.blocks_daily order by all"),
        "trades": query(home, "select count(*), bit_xor(hash(t)) from defi.dex_trades t"),
        "flows": query(home, "from defi.stablecoin_flows_daily order by all"),
        "checks": query(
            home,
            "select suite, partition, expectation, passed from raw.check_results order by all",
        ),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one covered day."""
    home = house(tmp_path_factory.mktemp("whole"))
    done = run(home, "backfill", "ethereum", *DAY)
    assert done.returncode == 0, done.stderr
    return home


def test_a_day_of_the_chain_is_covered_and_published(whole: Path) -> None:
    [(day, blocks, first, last, empty)] = query(
        whole,
        "select day, block_count, first_block, last_block, empty_slot_count "
        "from network.blocks_daily where chain = 'ethereum'",
    )

    assert (str(day), blocks, empty) == ("2024-12-31", 1440, 5760)
    # The block before the day and the one after it are in ranges that are there too.
    assert (first, last) == (FIRST + 60, FIRST + 1499)
    held = query(whole, "select min(number), max(number), count(*) from raw.chain_blocks")
    assert held == [(FIRST, FIRST + 1999, 2000)]
    # Without a venue's day there is no price, which only warns.
    assert query(
        whole, "select count(*) from raw.check_results where not passed and severity = 'ERROR'"
    ) == [(0,)]


def test_status_counts_ranges_and_names_what_is_missing(whole: Path) -> None:
    held = run(whole, "status", "ethereum", "--json")
    wider = run(whole, "status", "ethereum", "--blocks", f"{FIRST}:{FIRST + 2000}", "--json")

    assert held.returncode == 0, held.stderr
    rows = json.loads(held.stdout)
    assert {row["dataset"]: (row["ranges"], row["complete"]) for row in rows} == {
        f"ethereum_{kind}": (4, 4) for kind in ("blocks", "transactions", "logs")
    }
    assert wider.returncode == 1
    assert [row["missing"] for row in json.loads(wider.stdout)] == [1, 1, 1]


def test_the_same_command_again_fetches_nothing(whole: Path) -> None:
    before = state(whole)

    # Nothing is asked for that the faults could spoil.
    again = run(whole, "backfill", "ethereum", *DAY, SANDBOX_FAULTS="garbage_receipts")

    assert again.returncode == 0, again.stderr
    assert state(whole) == before


def test_history_is_registered_without_fetching_it(whole: Path) -> None:
    done = run(whole, "register", "ethereum", "--blocks", f"{FIRST}:{FIRST + 2999}")

    assert done.returncode == 0, done.stderr
    assert "6 final ranges, 021516000-021516499 to 021518500-021518999; 2 of them are new" in (
        " ".join(done.stdout.split())
    )
    assert query(whole, "select count(distinct range) from raw.chain_blocks") == [(4,)]


def test_a_lying_node_is_refused_and_named_and_the_next_run_heals(tmp_path: Path) -> None:
    home = house(tmp_path)
    blocks = ("--blocks", f"{FIRST}:{FIRST + 999}")
    lie = f"garbage_receipts@*@{FIRST + 600}-{FIRST + 600}"

    refused = run(home, "backfill", "ethereum", *blocks, SANDBOX_FAULTS=lie)
    status = run(home, "status", "ethereum", *blocks, "--json")
    healed = run(home, "backfill", "ethereum", *blocks)

    assert refused.returncode == 1
    said = " ".join(refused.stderr.split())
    assert "ethereum 021516500-021516999: ReceiptsRootMismatchError" in said
    assert f"block {FIRST + 600}" in said
    assert [row["quarantined"] for row in json.loads(status.stdout)] == [1, 1, 1]
    assert [row["complete"] for row in json.loads(status.stdout)] == [1, 1, 1]
    assert healed.returncode == 0, healed.stderr


def test_what_a_reorganisation_took_is_fetched_again_and_its_day_built_anew(
    whole: Path, tmp_path: Path
) -> None:
    # Deeper than one range: found when the range after the newest is fetched.
    fork = f"reorg@*@{FIRST + 1100}-"
    fresh = house(tmp_path / "fresh")
    reorganised = tmp_path / "reorganised"
    shutil.copytree(whole, reorganised)
    before = state(whole)

    after = f"{FIRST + 2000}:{FIRST + 2499}"
    found = run(reorganised, "backfill", "ethereum", "--blocks", after, SANDBOX_FAULTS=fork)
    blocks = f"{FIRST}:{FIRST + 2499}"
    other = run(fresh, "backfill", "ethereum", "--blocks", blocks, SANDBOX_FAULTS=fork)

    assert found.returncode == 0, found.stderr
    assert other.returncode == 0, other.stderr
    assert state(reorganised) == state(fresh)
    assert state(reorganised)["days"] != before["days"]


def test_a_second_node_on_another_fork_stops_the_day(tmp_path: Path) -> None:
    home = house(tmp_path)

    done = run(
        home, "backfill", "ethereum", *DAY, SANDBOX_FAULTS=f"reorg@ethereum-b@{FIRST + 1100}-"
    )

    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "check failed: raw/ethereum_logs ethereum_nodes_agree 021517000-021517499" in said
    assert "2024-12-31 to 2024-12-31 rest on block ranges that have not passed their checks" in said
    assert "AssetCheckFailed" not in said
    # The ranges are proven, and shown; of those that the nodes disagree on nothing is made.
    assert query(home, "select count(distinct range) from raw.ethereum_blocks") == [(4,)]
    decoded = query(home, "select distinct block_range from defi.dex_trades order by all")
    assert decoded == [(f"{FIRST:09}-{FIRST + 499:09}",), (f"{FIRST + 500:09}-{FIRST + 999:09}",)]
    assert query(home, "from network.blocks_daily") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--blocks", "5"), "not a first and a last block"),
        (("--blocks", f"{FIRST + 1}:{FIRST}"), "not a first and a last block"),
        (("--blocks", "1:2"), f"collected from block {FIRST}"),
        (("--blocks", f"{FIRST}:{FIRST}", *DAY), "instead of --from and --to"),
        (("--from", "2999-01-01", "--to", "2999-01-01"), "not over yet"),
    ],
)
def test_wrong_usage_exits_with_two_and_says_what(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    done = run(house(tmp_path), "backfill", "ethereum", *arguments)

    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())


def test_blocks_that_are_not_final_are_refused_with_the_last_range_that_is(tmp_path: Path) -> None:
    home = house(tmp_path)
    for command in ("backfill", "register"):
        done = run(home, command, "ethereum", "--blocks", f"{FIRST}:{FIRST + 99_999}")

        assert done.returncode == 1
        told = r"not finalized yet; the last range that is, is 0215\d{5}-0215"
        assert re.search(told, done.stderr), command
        assert done.stdout == ""


def test_a_range_that_covers_no_day_is_shown_decoded_with_its_checks(tmp_path: Path) -> None:
    home = house(tmp_path)

    done = run(home, "backfill", "ethereum", "--blocks", f"{FIRST}:{FIRST + 499}")

    assert done.returncode == 0, done.stderr
    assert query(home, "select count(*), min(number) from raw.ethereum_blocks") == [(500, FIRST)]
    assert query(home, "select count(*) from raw.chain_logs") != [(0,)]
    of_range = "select dataset from raw.proofs order by all"
    kinds = ("blocks", "calls", "logs", "transactions")
    assert query(home, of_range) == [(f"ethereum_{kind}",) for kind in kinds]
    assert query(home, "select bool_and(passed) from raw.check_results") == [(True,)]
    # Prices are made of days: what a trade was worth is not known, what was traded is.
    [(trades, priced, bought)] = query(
        home, "select count(*), count(amount_usd), count(token_bought_amount) from defi.dex_trades"
    )
    assert (trades > 500, priced, bought > 500) == (True, 0, True)
    assert query(home, "select count(*) from defi.dex_pools where is_genuine") != [(0,)]
    assert query(home, "select count(*) from defi.lending_supply") != [(0,)]
    assert query(home, "from defi.token_prices_1m") == []
    assert query(home, "from network.blocks_daily") == []


def test_the_readme_says_what_happens_on_a_chain(tmp_path: Path) -> None:
    """Its command lines for a chain, one after the other, by the packaged catalogue of chains."""
    readme = (PROJECT_ROOT / "README.md").read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```sh\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if " ethereum --" in line]
    done = []
    for line in lines:
        words = shlex.split(line, comments=True)
        at = words.index("crypto-assets")
        set_ = dict(word.removeprefix("CRYPTO_ASSETS_").split("=", 1) for word in words[:at])
        done.append(run(tmp_path, *words[at + 1 :], **set_))

    collected, refused, status = done
    assert collected.returncode == 0, collected.stderr
    assert query(tmp_path, "select count(*) from raw.ethereum_blocks") == [(3000,)]
    assert refused.returncode == 1
    said = " ".join(refused.stderr.split())
    assert "ethereum 021519000-021519999: ReceiptsRootMismatchError" in said
    assert "block 21519102" in said
    assert status.returncode == 1
    assert "quarantined" in status.stdout


def test_all_tells_of_what_could_not_be_begun_and_brings_the_rest(tmp_path: Path) -> None:
    """The sandbox chain has no block before 23:00 of that day."""
    done = run(tmp_path, "backfill", "all", "--from", "2024-12-30", "--to", "2024-12-30")

    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "HistoryPrunedError: http://sandbox: has no block of ethereum before 21516000" in said
    assert query(tmp_path, "select count(*) > 1000 from markets.trades") == [(True,)]


@pytest.mark.timeout(1100)
def test_kills_amid_twenty_ranges_end_in_the_digests_of_an_undisturbed_backfill(
    tmp_path: Path,
) -> None:
    twenty = ("backfill", "ethereum", "--blocks", f"{FIRST}:{FIRST + 1999}")
    calm, killed = house(tmp_path / "calm", size=100), house(tmp_path / "killed", size=100)
    started = time.monotonic()
    done = run(calm, *twenty)
    duration = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    moments = random.Random(20250101)
    hit = 0
    for _ in range(6):
        process = start(killed, *twenty)
        process.join(moments.uniform(0.2 * duration, 0.8 * duration))
        if process.exitcode is None:
            kill(process)
            hit += 1
        else:
            assert process.exitcode == 0
    assert hit >= 3, "too few kills hit a running backfill"
    last = run(killed, *twenty)
    assert last.returncode == 0, last.stderr
    assert state(killed) == state(calm)
    left = [
        path.relative_to(killed)
        for path in (killed / "sandbox").rglob("*")
        if path.is_file() and (".tmp" in path.name or "inflight" in path.parts)
    ]
    assert left == []
