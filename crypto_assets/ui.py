"""`make ui`: the Dagster UI with its daemon, and beside it the dbt docs and GX Data Docs.

Everything listens on loopback. Ctrl-C ends both.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

from crypto_assets.assets.dbt import PROJECT
from crypto_assets.checks.data_docs import build_data_docs
from crypto_assets.docs_site.dbt_docs import build_dbt_docs
from crypto_assets.docs_site.server import serve
from crypto_assets.runs import dagster_home
from crypto_assets.settings import PROJECT_ROOT, export_to_dbt, load_settings

DAGSTER_PORT = 3000
DOCS_PORT = 3001


def main() -> int:
    """Serve until interrupted; returns Dagster's exit code."""
    settings = load_settings()
    export_to_dbt(settings)
    build_dbt_docs(PROJECT.project_dir, settings.home)
    build_data_docs(settings.home)
    threading.Thread(target=serve, args=(settings.home, DOCS_PORT), daemon=True).start()
    print(
        f"Dagster UI  http://127.0.0.1:{DAGSTER_PORT}\nDocs        http://127.0.0.1:{DOCS_PORT}",
        flush=True,
    )
    scripts = Path(sysconfig.get_path("scripts"))
    command = [str(scripts / "dagster"), "dev", "--workspace", "workspace.yaml"]
    dagster = subprocess.Popen(  # noqa: S603 - our own program and arguments
        [*command, "--host", "127.0.0.1", "--port", str(DAGSTER_PORT)],
        cwd=PROJECT_ROOT,
        env={**os.environ, "DAGSTER_HOME": str(dagster_home(settings))},
    )
    # Ctrl-C reaches both processes; a signal sent to this one alone must be passed on.
    signal.signal(signal.SIGTERM, lambda *_: dagster.terminate())
    signal.signal(signal.SIGINT, lambda *_: None)
    return dagster.wait()


if __name__ == "__main__":
    sys.exit(main())
