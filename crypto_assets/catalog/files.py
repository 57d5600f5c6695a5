"""Reading a catalogue file: which folder it is in, and what is said of one that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from crypto_assets.errors import CatalogError

PACKAGED = Path(__file__).parent
NAMES = ("markets.yaml", "chains.yaml")

_Content = TypeVar("_Content")


class _Loader(yaml.SafeLoader):
    """YAML as it is meant: of two entries of one name the last would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        if doubles := [name for at, name in enumerate(names) if name in names[:at]]:
            raise yaml.constructor.ConstructorError(
                None, None, f"{doubles[0]!r} is there twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def find_file(name: str, folder: Path | None) -> Path:
    """Path of a catalogue file: in `folder`, or the packaged one where that folder lacks it.

    A folder that holds no catalogue file at all is taken for a mistake: its own path is returned.
    """
    own = (folder or PACKAGED) / name
    replaces_another = folder is not None and any((folder / each).exists() for each in NAMES)
    return own if own.exists() or not replaces_another else PACKAGED / name


def read_file(path: Path, adapter: TypeAdapter[_Content], example: str) -> _Content:
    """The checked content of a catalogue file.

    Raises CatalogError naming the file and every entry that is wrong; `example` is a right one.
    """
    try:
        raw: Any = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise CatalogError(
            f"cannot read the catalogue {path}: {error.strerror}; "
            f"set CRYPTO_ASSETS_CATALOG to a folder that holds {path.name}, or unset it"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: a date that no calendar has, or bytes that are not UTF-8.
        raise CatalogError(f"{path} is not valid YAML: {error}") from error
    try:
        return adapter.validate_python(raw)
    except ValidationError as error:
        lines = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors()
        )
        raise CatalogError(f"{path}: {lines}. An entry looks like {example}") from error
