"""Fixtures that several rooms use."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from collecting import House

_REALDATA = Path(__file__).resolve().parents[2] / "shared" / "realdata"


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of recorded exchange data beside the checkout; a fresh clone does not have it."""
    if not _REALDATA.is_dir():
        pytest.skip("recorded exchange data (../shared/realdata) is not beside this checkout")
    return _REALDATA


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A real lake and real collectors of Binance over whatever transport a test gives."""
    with House(tmp_path / "home") as built:
        yield built


@pytest.fixture
def small_files() -> Callable[[int], AbstractContextManager[None]]:
    """`with small_files(n):` lets no file grow past n bytes, as on a disk that is full."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
