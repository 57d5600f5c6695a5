"""The chain catalogue: which EVM chain is collected, from which block on, in ranges of what size.

Grain: one `Chain` per entry of `chains.yaml` beside this module; a folder given by the setting
`CATALOG` replaces the packaged file. A `BlockRange` is one partition of a chain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    model_validator,
)

from crypto_assets.catalog.files import find_file, read_file
from crypto_assets.catalog.protocols import (
    Deployment,
    TrustedToken,
    check_deployments,
    check_tokens,
    with_kinds,
)
from crypto_assets.errors import CatalogError

_DIGITS = 9
_KEY = re.compile(r"([0-9]+)-([0-9]+)")

Kind = Literal["blocks", "transactions", "logs"]
# The datasets of every chain; the first is the commit record of the three.
KINDS: tuple[Kind, ...] = get_args(Kind)
# What contracts answer about the logs of a range: a dataset that is committed by itself, after it.
CALLS: Literal["calls"] = "calls"
AnyKind = Kind | Literal["calls"]

# What may stand in a folder name, a dataset's name and a variable's.
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
# Jobs, targets of the command line, and dbt's sources over all chains.
_TAKEN = {"all", "chain", "chains", "marts", "network", "venues"}
_Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$", to_lower=True)]
_Topic = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{64}$", to_lower=True)]


def dataset_name(chain: str, kind: AnyKind) -> str:
    """Name of a chain's dataset: `ethereum_blocks`."""
    return f"{chain}_{kind}"


@dataclass(frozen=True, slots=True, order=True)
class BlockRange:
    """Blocks `first` to `last`, both inclusive; keys of ranges sort as the ranges do."""

    first: int
    last: int

    def __str__(self) -> str:
        return self.key

    @property
    def key(self) -> str:
        """Partition key, zero-padded: `018426000-018426999`."""
        return f"{self.first:0{_DIGITS}}-{self.last:0{_DIGITS}}"

    @classmethod
    def parse(cls, key: str) -> BlockRange:
        """The range of a partition key; raises ValueError if it is none."""
        match = _KEY.fullmatch(key)
        parsed = cls(int(match[1]), int(match[2])) if match else None
        if parsed is None or parsed.key != key or parsed.size < 1:
            raise ValueError(f"{key!r} is no block range such as 018426000-018426999")
        return parsed

    @property
    def size(self) -> int:
        """Number of blocks."""
        return self.last - self.first + 1

    def overlaps(self, other: BlockRange) -> bool:
        """Whether a block is in both."""
        return self.first <= other.last and other.first <= self.last

    def beside(self, step: int) -> BlockRange:
        """The range of the same size `step` ranges later (earlier if negative).

        Before the chain's first range there is none; what is returned then holds negative numbers.
        """
        return BlockRange(self.first + step * self.size, self.last + step * self.size)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LogFilter(_Model):
    """The logs of a light chain: of any of `addresses`, with any of `topics` as their topic 0.

    One that is empty does not narrow. Lower-case 0x hex.
    """

    # YAML has lists only.
    addresses: tuple[_Address, ...] = Field((), strict=False)
    topics: tuple[_Topic, ...] = Field((), strict=False)


class _Entry(_Model):
    chain_id: int = Field(gt=0)
    first_block: int = Field(0, ge=0)
    range_size: int = Field(1000, ge=1, le=100_000)
    slot_seconds: int | None = Field(None, gt=0)
    mode: Literal["full", "light"] = "full"
    logs_of: LogFilter = LogFilter()
    protocols: Annotated[dict[str, Deployment], BeforeValidator(with_kinds)] = {}
    # YAML has lists only.
    tokens: Annotated[tuple[TrustedToken, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _asks_for_logs_if_light(self) -> Self:
        if (self.mode == "light") != (self.logs_of != LogFilter()):
            raise ValueError("mode light needs logs_of, and mode full takes all logs without it")
        return self

    @model_validator(mode="after")
    def _lists_each_contract_once(self) -> Self:
        check_deployments(self.protocols)
        check_tokens(self.tokens)
        return self


class Chain(_Entry):
    """One chain. `first_block` is the first that is collected; `slot_seconds` None if no slots.

    `protocols` are the deployments whose events are decoded, by name (`uniswap_v3`).
    """

    name: str

    def __hash__(self) -> int:
        return hash(self.name)

    def dataset(self, kind: AnyKind) -> str:
        """Name of one of its datasets, such as `ethereum_logs`."""
        return dataset_name(self.name, kind)

    def range_of(self, block: int) -> BlockRange:
        """The range that a block is in."""
        first = block - block % self.range_size
        return BlockRange(first, first + self.range_size - 1)

    def ranges(self, first: int, last: int) -> list[BlockRange]:
        """All ranges that hold a block from `first` to `last`, both inclusive, in block order."""
        start = self.range_of(first).first
        return [self.range_of(block) for block in range(start, last + 1, self.range_size)]


_FILE = TypeAdapter(dict[_Name, _Entry])


@dataclass(frozen=True, slots=True)
class Chains:
    """All chains, in the order of the file."""

    chains: tuple[Chain, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Chain names in the order of the file."""
        return tuple(chain.name for chain in self.chains)

    def named(self, name: str) -> Chain:
        """The chain of that name; raises CatalogError for one that is not in the catalogue."""
        for chain in self.chains:
            if chain.name == name:
                return chain
        raise CatalogError(
            f"chain {name!r} is not in chains.yaml; it lists {', '.join(self.names) or 'none'}"
        )


def load_chains(folder: Path | None = None) -> Chains:
    """Read and check `chains.yaml` in a folder (default: the packaged one).

    A folder that holds only markets.yaml leaves the packaged chains as they are. Raises
    CatalogError naming the file and every entry that is wrong.
    """
    path = find_file("chains.yaml", folder)
    entries = read_file(path, _FILE, "ethereum: {chain_id: 1, first_block: 0, range_size: 1000}")
    if taken := sorted(_TAKEN & set(entries)):
        raise CatalogError(f"{path}: a chain cannot be called {', '.join(taken)}; that is taken")
    return Chains(tuple(Chain(name=name, **dict(entry)) for name, entry in entries.items()))
