"""The contracts of a chain that its marts know: deployments of protocols, and trusted tokens.

Grain: one `Deployment` per entry of a chain's `protocols`, one `TrustedToken` per entry of its
`tokens`. What their events and functions mean belongs to the models; here is only where they lie.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import sha3  # type: ignore[import-untyped]
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

NATIVE = "0x" + "00" * 20
"""The address that stands for a chain's own coin."""

_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*?_v([0-9]+)")
_LOWER_OR_UPPER = re.compile(r"0x(?:[0-9a-f]{40}|[0-9A-F]{40})")


def _checked(address: str) -> str:
    """In lower case; raises ValueError for one in mixed case whose checksum (EIP-55) is wrong."""
    digits = address[2:].lower()
    if not _LOWER_OR_UPPER.fullmatch(address):
        hashed = sha3.keccak_256(digits.encode()).hexdigest()
        pairs = zip(digits, hashed, strict=False)
        right = "".join(digit.upper() if int(nibble, 16) > 7 else digit for digit, nibble in pairs)
        if address[2:] != right:
            raise ValueError(f"{address} is mistyped: in mixed case it would be 0x{right}")
    return f"0x{digits}"


_Address = Annotated[
    str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$"), AfterValidator(_checked)
]
_Hash = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{64}$", to_lower=True)]
_Symbol = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,32}$")]
_Asset = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]+$")]

Role = Literal["native", "wrapped_native", "stablecoin", "major"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class UniswapV2(_Model):
    """A factory of pairs. `fee_pips`, in millionths, is what its pairs take of each swap.

    `deployer` is the contract that CREATE2 counts as the creator, if that is not the factory.
    """

    like: Literal["uniswap_v2"]
    factory: _Address
    init_code_hash: _Hash
    deployer: _Address | None = None
    fee_pips: int = Field(3000, ge=0, lt=1_000_000)

    @property
    def address(self) -> str:
        """The contract that the others belong to."""
        return self.factory


class UniswapV3(_Model):
    """A factory of pools, each with its own fee; `deployer` as of V2."""

    like: Literal["uniswap_v3"]
    factory: _Address
    init_code_hash: _Hash
    deployer: _Address | None = None

    @property
    def address(self) -> str:
        """The contract that the others belong to."""
        return self.factory


class UniswapV4(_Model):
    """The contract that holds all pools, and the one that remembers what a pool's id stands for."""

    like: Literal["uniswap_v4"]
    pool_manager: _Address
    position_manager: _Address | None = None

    @property
    def address(self) -> str:
        """The contract that the others belong to."""
        return self.pool_manager


class AaveV3(_Model):
    """A lending pool, which holds all reserves of its market."""

    like: Literal["aave_v3"]
    pool: _Address

    @property
    def address(self) -> str:
        """The contract that the others belong to."""
        return self.pool


Factory = UniswapV2 | UniswapV3
Deployment = Annotated[UniswapV2 | UniswapV3 | UniswapV4 | AaveV3, Field(discriminator="like")]


class TrustedToken(_Model):
    """A token whose symbol and decimals are known without asking it.

    `asset` is the asset of the market catalogue whose price it has, if it has one's.
    """

    address: _Address
    symbol: _Symbol
    decimals: int = Field(ge=0, le=77)
    role: Role
    asset: _Asset | None = None


def project_and_version(name: str) -> tuple[str, str]:
    """The halves of a deployment's name: `sushiswap_v2` is version 2 of sushiswap.

    Raises ValueError for a name that does not have them.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no name of a deployment such as uniswap_v2")
    return name[: match.start(1) - len("_v")], match[1]


def with_kinds(given: Any) -> Any:
    """Entries of `protocols` as in the file, each with the kind that its name says it is like."""
    if not isinstance(given, Mapping):
        return given
    for name in given:
        project_and_version(str(name))
    return {
        name: {"like": name, **entry} if isinstance(entry, Mapping) else entry
        for name, entry in given.items()
    }


def check_deployments(deployments: Mapping[str, Deployment]) -> None:
    """Raise ValueError if two of them are one contract: its events would count twice."""
    _refuse_doubles((each.address, name) for name, each in deployments.items())


def check_tokens(tokens: Iterable[TrustedToken]) -> None:
    """Raise ValueError for a token that is listed twice, or a native one that is a contract."""
    tokens = tuple(tokens)
    _refuse_doubles((token.address, token.symbol) for token in tokens)
    for token in tokens:
        if (token.role == "native") != (token.address == NATIVE):
            raise ValueError(f"{token.symbol}: role native is that of the address {NATIVE} alone")
    _refuse_doubles(
        (token.role, token.symbol) for token in tokens if token.role == "wrapped_native"
    )


def _refuse_doubles(pairs: Iterable[tuple[str, str]]) -> None:
    seen: dict[str, str] = {}
    for value, name in pairs:
        if value in seen:
            raise ValueError(f"{value} is listed twice, as {seen[value]} and as {name}")
        seen[value] = name
