"""Data Docs: pages need no network and no script, are rendered once, and only few are kept."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from crypto_assets.catalog import Catalog
from crypto_assets.checks import data_docs
from crypto_assets.checks.binance import SUITES
from crypto_assets.checks.data_docs import build_data_docs, keep_validation
from crypto_assets.checks.scope import market_days
from crypto_assets.checks.suite import Suite, SuiteResult, as_warning, evaluate
from crypto_assets.docs_site.pages import remote_references

from .conftest import DAYS

SUITE = SUITES[1]


@pytest.fixture
def failed(world: duckdb.DuckDBPyConnection, judge: Callable[[Suite], SuiteResult]) -> SuiteResult:
    world.execute(
        "update markets.ohlcv_1m set close = 0.051234567891 "
        "where market = 'BTC-USDT' and opened_at = '2024-03-02 03:36:00'"
    )
    return judge(SUITE)


def test_pages_show_the_rows_and_load_nothing_from_elsewhere(
    tmp_path: Path, failed: SuiteResult
) -> None:
    page = keep_validation(tmp_path, failed)
    index = build_data_docs(tmp_path)

    assert page == tmp_path / "gx/candles_equal_klines/2024-03-01_2024-03-03.html"
    html = page.read_text()
    assert "0.051234567891" in html
    assert "close_equals: close is Binance" in html
    assert "candles_equal_klines/2024-03-01_2024-03-03.html" in index.read_text()
    for path in tmp_path.rglob("*.html"):
        text = path.read_text()
        assert remote_references(text) == []
        assert not re.search(r"https?://|<script|\son\w+=", text)


def test_links_lead_to_pages_that_exist(tmp_path: Path, failed: SuiteResult) -> None:
    keep_validation(tmp_path, failed)
    (tmp_path / "index.html").touch()
    build_data_docs(tmp_path)

    for path in (tmp_path / "gx").rglob("*.html"):
        for target in re.findall(r'<a href="([^"]+)"', path.read_text()):
            assert (path.parent / target).resolve().exists()


def test_only_pages_that_changed_are_rendered(tmp_path: Path, failed: SuiteResult) -> None:
    page = keep_validation(tmp_path, failed)
    build_data_docs(tmp_path)
    page.write_text("as it was")
    build_data_docs(tmp_path)
    assert page.read_text() == "as it was"

    kept = tmp_path / "gx/evaluations/candles_equal_klines/2024-03-01_2024-03-03.json"
    os.utime(kept, (page.stat().st_mtime + 1,) * 2)
    build_data_docs(tmp_path)
    assert "close_equals" in page.read_text()


def test_a_day_that_passes_when_it_is_checked_again_has_healed(
    tmp_path: Path,
    failed: SuiteResult,
    world: duckdb.DuckDBPyConnection,
    catalog: Catalog,
) -> None:
    keep_validation(tmp_path, failed)
    assert "passed since" not in build_data_docs(tmp_path).read_text()

    world.execute(
        "update markets.ohlcv_1m set close = open "
        "where market = 'BTC-USDT' and opened_at = '2024-03-02 03:36:00'"
    )
    keep_validation(tmp_path, evaluate(SUITE, world, market_days(catalog, DAYS[1:2])))

    index = build_data_docs(tmp_path).read_text()
    assert "2024-03-02, passed since" in index
    assert '<h2>candles_equal_klines <span class="badge passed">' in index


def test_a_warning_is_told_and_is_no_failure(
    tmp_path: Path,
    world: duckdb.DuckDBPyConnection,
    judge: Callable[[Suite], SuiteResult],
) -> None:
    gentle = replace(SUITE, claims=tuple(as_warning(claim) for claim in SUITE.claims))
    world.execute(
        "update markets.ohlcv_1m set close = low / 2 "
        "where market = 'BTC-USDT' and opened_at = '2024-03-02 03:36:00'"
    )

    page = keep_validation(tmp_path, judge(gentle)).relative_to(tmp_path / "gx")
    index = build_data_docs(tmp_path).read_text()

    heading = '<h2>candles_equal_klines <span class="badge warned">warned</span></h2>'
    assert heading in index
    assert '<span class="badge warned">warned</span></td>' in index
    assert "<td>2024-03-02</td>" in index
    html = (tmp_path / "gx" / page).read_text()
    assert '<h1>candles_equal_klines <span class="badge warned">warned</span></h1>' in html
    assert '<span class="badge warned">2024-03-02</span>' in html
    assert html.count('<span class="badge passed">2024-03-0') == 2
    assert "badge failed" not in html + index


def test_a_failure_outweighs_a_warning(
    tmp_path: Path,
    failed: SuiteResult,
    world: duckdb.DuckDBPyConnection,
    catalog: Catalog,
) -> None:
    keep_validation(tmp_path, failed)
    gentle = replace(SUITE, claims=tuple(as_warning(claim) for claim in SUITE.claims))
    world.execute("delete from markets.ohlcv_1m where opened_at = '2024-03-03 03:36:00'")
    keep_validation(tmp_path, evaluate(gentle, world, market_days(catalog, DAYS[2:])))

    index = build_data_docs(tmp_path).read_text()

    assert '<h2>candles_equal_klines <span class="badge failed">failed</span></h2>' in index
    assert index.count('<span class="badge warned">') == 1


def test_a_suite_whose_first_result_was_never_written_has_no_page(
    tmp_path: Path, failed: SuiteResult
) -> None:
    keep_validation(tmp_path, failed)
    (tmp_path / "gx" / "evaluations" / "killed_before_its_result").mkdir()

    index = build_data_docs(tmp_path).read_text()

    assert "candles_equal_klines" in index
    assert "killed_before_its_result" not in index


def test_the_newest_pages_are_kept(
    tmp_path: Path, failed: SuiteResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_docs, "_KEPT_PAGES", 2)
    for step in range(3):
        day = date(2024, 3, 1) + timedelta(days=step)
        keep_validation(tmp_path, replace(failed, partitions=(day.isoformat(),)))
        build_data_docs(tmp_path)

    pages = sorted(path.name for path in tmp_path.glob("gx/candles_equal_klines/*"))
    assert pages == ["2024-03-02.html", "2024-03-03.html"]


def test_what_was_found_is_escaped(tmp_path: Path, failed: SuiteResult) -> None:
    nasty = {**failed.offenders[0], "found": "<script>alert(1)</script>"}

    page = keep_validation(tmp_path, replace(failed, offenders=(nasty,)))
    build_data_docs(tmp_path)

    assert "<script>" not in page.read_text()


def test_an_index_without_results_says_so(tmp_path: Path) -> None:
    assert "Nothing has been checked yet" in build_data_docs(tmp_path).read_text()
