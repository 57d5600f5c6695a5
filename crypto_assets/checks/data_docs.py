"""Data Docs: a page for every evaluation, as Great Expectations renders it, and an index of them.

    <home>/gx/index.html
    <home>/gx/<suite>/2024-01-01_2024-01-31.html             a page
    <home>/gx/evaluations/<suite>/2024-01-01_2024-01-31.json  what it is rendered from

Evaluating the same partitions again replaces their page. The newest pages of each suite are kept;
the results of all partitions are in the check results. Great Expectations' own site builder is not
used: its pages load stylesheets, scripts and pictures from seven other hosts and hide parts without
them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from markupsafe import Markup

from crypto_assets.checks.suite import SHOWN_ROWS, SuiteResult
from crypto_assets.docs_site.pages import render
from crypto_assets.lake.durable import storage_errors, write_text

# Two months of daily runs; an index of more is not read, and rendering it would slow every run.
_KEPT_PAGES = 60
# What is said of a partition and of a suite, the gravest first.
_STATES = ("failed", "warned", "passed")
_STATE_OF = {"ERROR": "failed", "WARN": "warned", None: "passed"}


def keep_validation(home: Path, result: SuiteResult) -> Path:
    """Keep what a page is rendered from; returns where `build_data_docs` will put the page."""
    first, last = result.partitions[0], result.partitions[-1]
    name = first if first == last else f"{first}_{last}"
    validation = {
        "suite": result.suite.name,
        "asset": result.suite.asset,
        "description": result.suite.description,
        "period": first if first == last else f"{first} to {last}",
        "grid": result.grid,
        "states": {key: _STATE_OF[result.verdict(key)] for key in result.partitions},
        "evaluated_at": f"{result.evaluated_at:%Y-%m-%d %H:%M:%S}",
        "run_id": result.run_id,
        "offenders": list(result.offenders),
        "validation": result.validation,
    }
    target = _evaluations(home) / result.suite.name / f"{name}.json"
    with storage_errors(target):
        write_text(target, json.dumps(validation, default=str))
    return _page(home, target)


def build_data_docs(home: Path) -> Path:
    """Render pages that are missing or out of date, then the index; returns the index."""
    lock = home / "locks" / "data_docs.lock"
    with storage_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock).acquire()
    with held:
        return _build(home)


def _build(home: Path) -> Path:
    suites = []
    # A run that was killed may have left a folder without a file.
    for folder in sorted({path.parent for path in _evaluations(home).glob("*/*.json")}):
        kept = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[_KEPT_PAGES:]:
            _page(home, path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        pages: list[dict[str, Any]] = []
        # Newest first: what was found of a partition later on stands.
        standing: dict[str, str] = {}
        for path in kept[:_KEPT_PAGES]:
            validation = json.loads(path.read_text(encoding="utf-8"))
            page = _page(home, path)
            if not page.exists() or page.stat().st_mtime < path.stat().st_mtime:
                _write(page, _render_page(validation))
            states = validation["states"]
            standing = {**states, **standing}
            failed, warned = (_of_state(states, state) for state in ("failed", "warned"))
            pages.append(
                {
                    "href": page.relative_to(home / "gx").as_posix(),
                    "state": _gravest(states),
                    "named": failed or warned,
                    "healed": bool(failed) and all(standing[key] != "failed" for key in failed),
                    **{name: validation[name] for name in ("period", "evaluated_at")},
                }
            )
        suites.append(
            {
                "name": folder.name,
                "state": _gravest(standing),
                "pages": pages,
                **{name: validation[name] for name in ("description", "asset", "grid")},
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
        state=_gravest(validation["states"]),
        **{name: value for name, value in validation.items() if name != "validation"},
    )


def _gravest(states: Mapping[str, str]) -> str:
    return next(state for state in _STATES if state in states.values())


def _of_state(states: Mapping[str, str], wanted: str) -> list[str]:
    return [key for key, state in states.items() if state == wanted]


def _evaluations(home: Path) -> Path:
    return home / "gx" / "evaluations"


def _page(home: Path, validation: Path) -> Path:
    return home / "gx" / validation.parent.name / f"{validation.stem}.html"


def _write(path: Path, html: str) -> None:
    with storage_errors(path):
        write_text(path, html)
