"""Sections of a document that a command writes."""

from __future__ import annotations

import re


def replace_section(page: str, section: str, text: str) -> str:
    """Return a page with a new text between the marks of a section.

    Args:
        page: A document with the marks `<!-- NAME -->` and `<!-- /NAME -->`.
        section: The name in the marks.
        text: The new text.

    Raises:
        ValueError: If the page has no such section.
    """
    marked = re.compile(rf"(<!-- {section} -->\n).*?(<!-- /{section} -->)", re.DOTALL)
    page, count = marked.subn(lambda match: f"{match[1]}\n{text}\n{match[2]}", page)
    if not count:
        msg = f"the page has no <!-- {section} -->"
        raise ValueError(msg)
    return page
