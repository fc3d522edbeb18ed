"""HTML from Python. What comes from data is always escaped: it may be anybody's text."""

from html import escape


class Html(str):
    """Markup, as opposed to text."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: object) -> Html:
    """`<name …>children</name>`; attributes that are None are left out, and underscores stand for dashes."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: str) -> Html:
    """Markup as it is, and text escaped, one after the other."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children))
