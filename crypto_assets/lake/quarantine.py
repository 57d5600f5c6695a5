"""The quarantine: what a source delivered and could not be proven, kept with its reason.

One folder per refused delivery, named after the broken claim and the delivery's content, so that
the same bad file refused every day is kept once.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

from crypto_assets.catalog import Unit
from crypto_assets.errors import IntegrityError
from crypto_assets.lake.durable import storage_errors, write_text
from crypto_assets.lake.layout import Lake

EVIDENCE_FILE = "evidence.json"


def quarantine(lake: Lake, part: Unit, error: IntegrityError) -> Path:
    """Move a partition's in-flight files into quarantine and write down why.

    Returns the folder, which then holds `evidence.json` (reason, message, evidence, partition) and
    the delivered files. The lake's committed file, if any, is not touched. Raises StorageError if
    the disk refuses.
    """
    inflight = lake.inflight(part)
    with storage_errors(lake.quarantine(part)):
        delivered = sorted(path for path in inflight.rglob("*") if path.is_file())
        content = hashlib.sha256(str(error).encode())
        for path in delivered:
            with path.open("rb") as file:
                content.update(hashlib.file_digest(file, "sha256").digest())
        reason = type(error).__name__
        target = lake.quarantine(part) / f"{reason}-{content.hexdigest()[:12]}"
        evidence = {
            "reason": reason,
            "message": str(error),
            **part.names,
            "evidence": dict(error.evidence),
            "quarantined_at": datetime.now(UTC).isoformat(),
        }
        text = json.dumps(evidence, indent=2, default=str)
        if target.exists():
            # The same delivery was refused for the same reason before: only the time is new.
            write_text(target / EVIDENCE_FILE, text)
        else:
            # What a killed run left here counts as nothing: its name starts with a dot.
            staging = target.with_name(f".{target.name}")
            shutil.rmtree(staging, ignore_errors=True)
            write_text(staging / EVIDENCE_FILE, text)
            for path in delivered:
                kept = staging / path.relative_to(inflight)
                kept.parent.mkdir(parents=True, exist_ok=True)
                path.replace(kept)
            staging.rename(target)
    lake.clear_inflight(part)
    return target


def quarantined(lake: Lake, part: Unit) -> list[Path]:
    """Evidence files of a partition's refused deliveries, newest last."""
    return sorted(
        lake.quarantine(part).glob(f"[!.]*/{EVIDENCE_FILE}"), key=lambda path: path.stat().st_mtime
    )
