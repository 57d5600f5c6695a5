"""dbt docs of this project: generated, cleaned, and shown by a browser without a network."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from crypto_assets.docs_site.dbt_docs import DocsError, build_dbt_docs, without_tracking
from crypto_assets.docs_site.pages import remote_references
from crypto_assets.settings import PROJECT_ROOT


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRYPTO_ASSETS_WAREHOUSE", str(home / "warehouse.duckdb"))
        return build_dbt_docs(PROJECT_ROOT / "dbt_project", home)


def test_the_page_loads_nothing_and_tracks_nobody(page: Path) -> None:
    html = page.read_text(encoding="utf-8")

    assert "ohlcv_1m" in html
    assert remote_references(html) == []
    assert "cloudfront" not in html
    assert "sinter-collect" not in html
    assert html.index("Content-Security-Policy") < html.index("<script")


def test_a_page_that_still_loads_something_is_refused(page: Path) -> None:
    tracked = page.read_text(encoding="utf-8").replace(
        "turn_on_tracking:function(){},",
        'turn_on_tracking:function(){i.src="//cdn.example.org/sp.js"},',
    )
    assert "cdn.example.org" not in without_tracking(tracked)

    with pytest.raises(DocsError, match=r"loads //cdn\.example\.org/other\.js"):
        without_tracking(tracked + '<script src="//cdn.example.org/other.js"></script>')
    with pytest.raises(DocsError, match="tracker in a way not known"):
        without_tracking("<html><head></head></html>")


def test_a_project_that_does_not_parse_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYPTO_ASSETS_WAREHOUSE", str(tmp_path / "warehouse.duckdb"))
    (tmp_path / "dbt_project.yml").write_text("name: nothing")

    with pytest.raises(DocsError, match="dbt docs generate failed"):
        build_dbt_docs(tmp_path, tmp_path)


def test_a_browser_shows_a_model(page: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")

    shown = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            f"--user-data-dir={tmp_path}",
            "--virtual-time-budget=8000",
            "--dump-dom",
            f"{page.as_uri()}#!/model/model.crypto_assets.ohlcv_1m",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert "One row per venue, market and minute that had a trade" in shown.stdout
