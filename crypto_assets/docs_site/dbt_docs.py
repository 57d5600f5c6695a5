"""dbt docs as one page that loads nothing from elsewhere and reports to nobody.

`dbt docs generate --static` puts data, scripts and styles into one file, but its script can load a
tracker from another host. That is taken out, and the page tells the browser to refuse the rest.
"""

from __future__ import annotations

import re
from pathlib import Path

from crypto_assets.docs_site.pages import remote_references
from crypto_assets.errors import CryptoAssetsError
from crypto_assets.lake.durable import storage_errors, write_text

# Everything is inline; Angular compiles its templates with eval.
_POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'unsafe-inline\' '
    "'unsafe-eval' data: blob:; form-action 'none'; base-uri 'none'\">"
)
_TRACKING = re.compile(r"turn_on_tracking:function\(\)\{.*?\},(?=fuzzUrls:)", re.DOTALL)
# A placeholder that dbt's build left unresolved, and a path that only dbt's own host has.
_BROKEN_LINKS = re.compile(r'<link rel="(?:shortcut icon|canonical)"[^>]*>')


class DocsError(CryptoAssetsError):
    """The documentation could not be generated."""


def build_dbt_docs(project: Path, home: Path) -> Path:
    """Generate dbt docs as `<home>/docs/index.html`; returns it.

    The environment must name the warehouse as for any dbt command. While another process writes to
    the warehouse, dbt waits for it, and fails after half a minute.
    """
    # dbt's import takes more than a second and sets up logging of its own.
    from dbt.cli.main import dbtRunner  # noqa: PLC0415

    # Apart from the target of the pipeline, whose manifest may be read at this moment.
    work = home / "dbt" / "docs"
    options = {
        "--project-dir": project,
        "--profiles-dir": project,
        "--target-path": work,
        "--log-path": work,
    }
    result = dbtRunner().invoke(
        ["--quiet", "docs", "generate", "--static"]
        + [str(part) for option in options.items() for part in option]
    )
    if not result.success:
        raise DocsError(
            f"dbt docs generate failed: {result.exception or result.result}; "
            f"its log is {work / 'dbt.log'}"
        )
    page = home / "docs" / "index.html"
    with storage_errors(page):
        write_text(page, without_tracking((work / "static_index.html").read_text(encoding="utf-8")))
    return page


def without_tracking(html: str) -> str:
    """dbt's static page without its tracker; raises DocsError if something remote is left."""
    html, found = _TRACKING.subn("turn_on_tracking:function(){},", html)
    html = _BROKEN_LINKS.sub("", html)
    html = html.replace("<head>", f'<head>{_POLICY}<link rel="icon" href="data:,">', 1)
    if not found or (remote := remote_references(html)):
        raise DocsError(
            f"dbt's page loads {', '.join(remote) if found else 'a tracker in a way not known'}; "
            "this version of dbt generates another page than the one this was written for"
        )
    return html
