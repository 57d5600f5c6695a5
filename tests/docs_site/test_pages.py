"""Finding what a browser would load from another host."""

from __future__ import annotations

import pytest

from crypto_assets.docs_site.pages import remote_references

HOST = "//cdn.example.org/x"


@pytest.mark.parametrize(
    "html",
    [
        f'<script src="https:{HOST}"></script>',
        f"<script async src=https:{HOST}></script>",
        f'<script src="{HOST}"></script>',
        f'<link rel="stylesheet"\n href="http:{HOST}">',
        f'<img alt="" src="https:{HOST}">',
        f'<iframe src="https:{HOST}"></iframe>',
        f'<style>@import "https:{HOST}";</style>',
        f"<style>@import url({HOST});</style>",
        f"<div style=\"background: url('https:{HOST}')\"></div>",
        f'<script>i.src="{HOST}",a.parentNode.insertBefore(i,a)</script>',
    ],
)
def test_a_reference_that_is_loaded_is_found(html: str) -> None:
    (found,) = remote_references(html)
    assert found.endswith(HOST)


@pytest.mark.parametrize(
    "html",
    [
        f'<a href="https:{HOST}">a link to click</a>',
        '<script src="own.js"></script><link href="own.css"><img src="data:image/png;base64,x">',
        '<svg xmlns="http://www.w3.org/2000/svg"></svg>',
        f"<p>see https:{HOST}</p>",
    ],
)
def test_what_is_not_loaded_is_left_alone(html: str) -> None:
    assert remote_references(html) == []
