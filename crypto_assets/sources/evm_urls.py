"""RPC URLs: what of one is an address, and what may be a key that nobody must see."""

from __future__ import annotations

from urllib.parse import SplitResult, unquote, urlsplit

from crypto_assets.errors import SettingsError

# Shorter parts of a path ("v3", "rpc") are no keys, and hiding them would garble messages.
_SHORTEST_KEY = 8


def split_url(url: str) -> SplitResult:
    """The parts of an RPC URL; raises SettingsError, which does not show it."""
    try:
        parts = urlsplit(url)
        is_sound = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises for one that is no number
    except ValueError:
        is_sound = False
    if not is_sound:
        raise SettingsError("an RPC URL must begin with http:// or https:// and a host")
    return parts


def secrets_in(parts: SplitResult) -> list[str]:
    """All of a URL that may be a key: its path and query together, and their longer parts."""
    whole = f"{parts.path}?{parts.query}".rstrip("?")
    # With its slash if it is so short that it would be found in any text.
    whole = whole[1:] if len(whole) > _SHORTEST_KEY else whole
    pieces = [parts.username or "", *parts.path.split("/")]
    pieces += parts.query.replace("=", "&").split("&")
    keys = ["" if whole == "/" else whole, parts.password or ""]
    keys += [piece for piece in pieces if len(piece) >= _SHORTEST_KEY]
    return [text for key in keys for text in {key, unquote(key)}]
