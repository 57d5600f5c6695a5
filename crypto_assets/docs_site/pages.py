"""Rendering our own pages: templates and the stylesheet beside this module, text always escaped."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_TEMPLATES = Path(__file__).parent / "templates"
# What a browser loads by itself. A link that a reader may click is not among them.
_LOADED = re.compile(
    r"""<(?:script|img|iframe|embed|source|video|audio|object|input|use|image)\b[^>]*?
            \b(?:src|srcset|data|poster|href|xlink:href)\s*=\s*["']?\s*(?P<tag>(?:https?:)?//[^"'\s>]+)
      | <link\b[^>]*?\bhref\s*=\s*["']?\s*(?P<link>(?:https?:)?//[^"'\s>]+)
      | @import\s+(?:url\()?\s*["']?(?P<css>(?:https?:)?//[^"'\s);]+)
      | \.src\s*=\s*["'`](?P<script>(?:https?:)?//[^"'`\s]+)
      | url\(\s*\\?["']?(?P<url>(?:https?:)?//[^"'\s)\\]+)
    """,
    re.VERBOSE | re.IGNORECASE,
)


def render(template: str, **values: Any) -> str:
    """A page from one of the templates beside this module."""
    return _environment().get_template(template).render(**values)


def remote_references(html: str) -> list[str]:
    """Addresses on other hosts that a browser would load by itself when it opens a page."""
    return [next(filter(None, match.groups())) for match in _LOADED.finditer(html)]


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
