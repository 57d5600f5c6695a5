"""`make ui`: the Dagster UI with its daemon, and beside it the dbt docs and GX Data Docs.

Everything listens on loopback. Ctrl-C ends both.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import dagster as dg

from crypto_assets.assets.dbt import PROJECT
from crypto_assets.checks.data_docs import build_data_docs
from crypto_assets.docs_site.dbt_docs import build_dbt_docs
from crypto_assets.docs_site.server import serve
from crypto_assets.runs import dagster_home, end_orphaned_runs
from crypto_assets.settings import PROJECT_ROOT, export_to_dbt, load_settings

DAGSTER_PORT = 3000
DOCS_PORT = 3001


def main() -> int:
    """Serve until interrupted; returns Dagster's exit code."""
    settings = load_settings()
    for port in (DAGSTER_PORT, DOCS_PORT):
        _require_free(port)
    export_to_dbt(settings)
    build_dbt_docs(PROJECT.project_dir, settings.home)
    build_data_docs(settings.home)
    threading.Thread(target=serve, args=(settings.home, DOCS_PORT), daemon=True).start()
    print(
        f"Dagster UI  http://127.0.0.1:{DAGSTER_PORT}\nDocs        http://127.0.0.1:{DOCS_PORT}",
        flush=True,
    )
    home = dagster_home(settings)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        end_orphaned_runs(instance)
    command = [str(Path(sysconfig.get_path("scripts"), "dagster")), "dev"]
    options = ["--workspace", str(PROJECT_ROOT / "workspace.yaml"), "--host", "127.0.0.1"]
    # Ctrl-C reaches both processes, and this one waits for Dagster to end. Set before Dagster
    # starts, which would else inherit an ignored Ctrl-C from a shell's background job.
    signal.signal(signal.SIGINT, lambda *_: None)
    dagster = subprocess.Popen(  # noqa: S603 - our own program and arguments
        [*command, *options, "--port", str(DAGSTER_PORT)],
        cwd=home,
        env={**os.environ, **settings.as_environment(), "DAGSTER_HOME": str(home)},
    )
    # A signal to this process alone is passed on as Ctrl-C, upon which Dagster ends its servers; it
    # would leave them behind if it were terminated.
    signal.signal(signal.SIGTERM, lambda *_: dagster.send_signal(signal.SIGINT))
    return dagster.wait()


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            sys.exit(f"port {port} is in use ({error.strerror}); end what listens there first")


if __name__ == "__main__":
    sys.exit(main())
