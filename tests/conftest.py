"""Fixtures that several rooms use."""

from __future__ import annotations

from pathlib import Path

import pytest

_REALDATA = Path(__file__).resolve().parents[2] / "shared" / "realdata"


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of recorded exchange data beside the checkout; a fresh clone does not have it."""
    if not _REALDATA.is_dir():
        pytest.skip("recorded exchange data (../shared/realdata) is not beside this checkout")
    return _REALDATA
