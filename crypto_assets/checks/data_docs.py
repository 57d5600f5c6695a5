"""Data Docs: a page for every evaluation, as Great Expectations renders it, and an index of them.

    <home>/gx/index.html
    <home>/gx/<suite>/2024-01-01_2024-01-31.html             a page
    <home>/gx/validations/<suite>/2024-01-01_2024-01-31.json  what it is rendered from

Evaluating the same days again replaces their page. The newest pages of each suite are kept; the
results of all days are in the check results. Great Expectations' own site builder is not used: its
pages load stylesheets, scripts and pictures from seven other hosts and hide parts without them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from crypto_assets.checks.suite import SHOWN_ROWS, SuiteResult
from crypto_assets.docs_site.pages import render
from crypto_assets.lake.durable import storage_errors, write_text

# Two months of daily runs; an index of more is not read, and rendering it would slow every run.
_KEPT_PAGES = 60
# What is said of a day and of a suite, the gravest first.
_STATES = ("failed", "warned", "passed")


def keep_validation(home: Path, result: SuiteResult) -> Path:
    """Keep what a page is rendered from; returns where `build_data_docs` will put the page."""
    first, last = result.days[0].isoformat(), result.days[-1].isoformat()
    name = first if first == last else f"{first}_{last}"
    validation = {
        "suite": result.suite.name,
        "asset": result.suite.asset,
        "description": result.suite.description,
        "period": first if first == last else f"{first} to {last}",
        "days": [day.isoformat() for day in result.days],
        "failed_days": [day.isoformat() for day in result.failed_days],
        "warned_days": [day.isoformat() for day in result.warned_days],
        "evaluated_at": f"{result.evaluated_at:%Y-%m-%d %H:%M:%S}",
        "run_id": result.run_id,
        "offenders": list(result.offenders),
        "validation": result.validation,
    }
    target = _validations(home) / result.suite.name / f"{name}.json"
    with storage_errors(target):
        write_text(target, json.dumps(validation, default=str))
    return _page(home, target)


def build_data_docs(home: Path) -> Path:
    """Render pages that are missing or out of date, then the index; returns the index."""
    suites = []
    for folder in sorted(path for path in _validations(home).glob("*") if path.is_dir()):
        kept = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[_KEPT_PAGES:]:
            _page(home, path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        pages: list[dict[str, Any]] = []
        # Newest first: what was found of a day later on stands.
        standing: dict[str, str] = {}
        for path in kept[:_KEPT_PAGES]:
            validation = json.loads(path.read_text(encoding="utf-8"))
            page = _page(home, path)
            if not page.exists() or page.stat().st_mtime < path.stat().st_mtime:
                _write(page, _render_page(validation))
            failed, warned = validation["failed_days"], validation["warned_days"]
            for day in validation["days"]:
                state = "failed" if day in failed else "warned" if day in warned else "passed"
                standing.setdefault(day, state)
            pages.append(
                {
                    "href": page.relative_to(home / "gx").as_posix(),
                    "failed": failed,
                    "warned": warned,
                    "healed": bool(failed) and all(standing[day] != "failed" for day in failed),
                    **{name: validation[name] for name in ("period", "evaluated_at")},
                }
            )
        suites.append(
            {
                "name": folder.name,
                "state": next(state for state in _STATES if state in standing.values()),
                "pages": pages,
                **{name: validation[name] for name in ("description", "asset")},
            }
        )
    index = home / "gx" / "index.html"
    _write(index, render("validations.html", suites=suites))
    return index


def _render_page(validation: Mapping[str, Any]) -> str:
    # Importing Great Expectations takes 3 s, which loading definitions must not pay.
    from great_expectations.core.expectation_validation_result import (
        expectationSuiteValidationResultSchema,
    )
    from great_expectations.render.renderer.content_block.validation_results_table_content_block import (  # noqa: E501
        ValidationResultsTableContentBlockRenderer,
    )
    from great_expectations.render.view.view import DefaultJinjaComponentView

    results = expectationSuiteValidationResultSchema.load(validation["validation"])
    table: Any = ValidationResultsTableContentBlockRenderer.render(results["results"])
    view: Any = DefaultJinjaComponentView()
    html: str = view.render({"content_block": table.to_json_dict()})
    return render(
        "validation.html",
        # Great Expectations escapes what it was given.
        expectations=Markup(html),  # noqa: S704
        shown_rows=SHOWN_ROWS,
        **{name: value for name, value in validation.items() if name != "validation"},
    )


def _validations(home: Path) -> Path:
    return home / "gx" / "validations"


def _page(home: Path, validation: Path) -> Path:
    return home / "gx" / validation.parent.name / f"{validation.stem}.html"


def _write(path: Path, html: str) -> None:
    with storage_errors(path):
        write_text(path, html)
