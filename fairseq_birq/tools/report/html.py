"""HTML as a tree of elements: whatever a run's files hold becomes text, and nothing of it markup."""

import base64
import tempfile
from pathlib import Path
from typing import Callable, Iterable, Sequence
from xml.etree.ElementTree import Element, tostring

_STYLE = Path(__file__).with_name("style.css")


def node(tag: str, *content, **attributes) -> Element:
    """An element. content: elements, or anything else as text; `class_` stands for `class`."""
    element = Element(tag, {key.rstrip("_").replace("_", "-"): str(value) for key, value in attributes.items()})
    for part in content:
        children = list(element)
        if isinstance(part, Element):
            element.append(part)
        elif children:
            children[-1].tail = (children[-1].tail or "") + str(part)
        else:
            element.text = (element.text or "") + str(part)
    return element


def section(name: str, title: str, *content) -> Element:
    """A part of the page that the contents link to."""
    return node("section", node("h2", title), *content, id=name)


def missing(what: str, option: str) -> Element:
    """Says which option brings a part that is not there."""
    return node("p", f"{what}: ", node("code", option), class_="missing")


def table(head: Sequence, rows: Iterable[Sequence], caption: str = "") -> Element:
    """A table that scrolls sideways on a narrow screen; the first cell of a row is its name."""
    body = [node("tr", node("th", row[0], scope="row"), *(node("td", cell) for cell in row[1:])) for row in rows]
    top = node("thead", node("tr", *(node("th", cell, scope="col") for cell in head)))
    scrolled = node("div", node("table", top, node("tbody", *body)), class_="scroll", tabindex=0)
    return node("figure", *([node("figcaption", caption)] if caption else []), scrolled)


def picture(draw: Callable[[Path], None], description: str, caption: str = "", wide: bool = False) -> Element:
    """What `draw(path)` draws as PNG, inside the page.

    description: for those who cannot see it
    wide: as wide as a printed page, to be scrolled where the screen is narrower
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        draw(path)
        content = base64.b64encode(path.read_bytes()).decode()
    image = node("img", src=f"data:image/png;base64,{content}", alt=description)
    parts = [node("div", image, class_="scroll", tabindex=0) if wide else image]
    parts += [node("figcaption", caption)] if caption else []
    return node("figure", *parts, **({"class_": "wide"} if wide else {}))


def document(title: str, sections: Sequence[Element]) -> bytes:
    """The page, UTF-8; what is no character (bytes of a broken file) becomes `?`."""
    links = [node("li", node("a", part.findtext("h2"), href=f"#{part.get('id')}")) for part in sections]
    head = node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        node("meta", name="color-scheme", content="light dark"),
        node("title", title),
        node("style", _STYLE.read_text(encoding="utf-8")),
    )
    contents = node("nav", node("ul", *links), aria_label="contents")
    body = node("body", node("header", node("h1", title), contents), node("main", *sections))
    text = tostring(node("html", head, body, lang="en"), encoding="unicode", method="html")
    return f"<!DOCTYPE html>\n{text}\n".encode("utf-8", errors="replace")
