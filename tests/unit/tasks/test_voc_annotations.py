"""Annotations as VOC writes them, as people do, and as an attacker would."""

import pytest

from npuq.errors import DatasetError
from tasks import voc_annotations
from tasks.voc_annotations import Annotation, as_arrays, parse


def xml(*objects: str) -> bytes:
    """Return a file with these objects."""
    parts = "".join(f"<object>{item}</object>" for item in objects)
    return f"<annotation><folder>VOC2007</folder>{parts}</annotation>".encode()


def item(name: str = "dog", box: str = "1 2 30.5 40", rest: str = "<difficult>0</difficult>") -> str:
    """Return an object as VOC writes it."""
    corners = zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=True)
    return f"<name>{name}</name>{rest}<bndbox>{''.join(f'<{tag}>{text}</{tag}>' for tag, text in corners)}</bndbox>"


def test_corners_count_from_zero() -> None:
    """VOC counts pixels from 1; fractions, which some editions have, stay."""
    found = as_arrays(parse(xml(item()), "a.xml").objects)
    assert found.boxes.tolist() == [[0.0, 1.0, 29.5, 39.0]]
    assert (str(found.boxes.dtype), str(found.labels.dtype), str(found.difficult.dtype)) == ("float32", "int64", "bool")


@pytest.mark.parametrize("name", ["tvmonitor", " TVmonitor\n", "TVMONITOR"])
def test_names_are_compared_without_case_and_blanks(name: str) -> None:
    """As pytorch-ssd does."""
    assert [found.label for found in parse(xml(item(name)), "a.xml").objects] == [20]


@pytest.mark.parametrize("name", ["zebra", "background", "tv monitor"])
def test_unknown_class_is_left_out_and_named(name: str) -> None:
    """As pytorch-ssd does; the background is no object."""
    annotation = parse(xml(item("cat"), item(name), item("aeroplane")), "a.xml")
    assert [found.label for found in annotation.objects] == [8, 1]
    assert annotation.unknown == (name,)


@pytest.mark.parametrize(
    ("written", "difficult"),
    [
        ("<difficult>1</difficult>", True),
        ("<difficult> 0 </difficult>", False),
        ("<difficult/>", False),
        ("", False),
    ],
)
def test_only_one_says_difficult(written: str, *, difficult: bool) -> None:
    """Some editions leave the element out or empty."""
    assert [found.difficult for found in parse(xml(item(rest=written)), "a.xml").objects] == [difficult]


def test_image_without_objects_has_empty_arrays() -> None:
    """Of the right shapes, so that nobody has to ask."""
    found = as_arrays(parse(xml(), "a.xml").objects)
    assert (found.boxes.shape, found.labels.shape, found.difficult.shape) == ((0, 4), (0,), (0,))


def test_boxes_of_parts_are_not_the_objects() -> None:
    """VOC marks heads and hands within persons."""
    part = "<part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
    found = parse(xml(item("person", rest=part)), "a.xml").objects
    assert [person.box for person in found] == [(0.0, 1.0, 29.5, 39.0)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no XML"),
        (b"<annotation>", "no XML"),
        (b"\xff\xd8\xff\xe0 a picture", "no XML"),
        (b'<?xml version="1.0" encoding="no-such"?><annotation/>', "unknown encoding"),
        (xml("<difficult>0</difficult>"), "no name"),
        (xml("<name>dog</name>"), "xmin is ''"),
        (xml(item(box="1 2 3 nan")), "ymax is 'nan'"),
        (xml(item(box="1 two 3 4")), "ymin is 'two'"),
        (xml(item(rest="<difficult>yes</difficult>")), "'yes' difficult"),
    ],
)
def test_broken_file_is_named(content: bytes, said: str) -> None:
    """One bad file among thousands is found without searching."""
    with pytest.raises(DatasetError, match=said) as caught:
        parse(content, "Annotations/000001.xml")
    assert "Annotations/000001.xml" in caught.value.info.message


def laughs() -> str:
    """Return declarations of an entity of 10^11 letters."""
    return '<!ENTITY a0 "l">' + "".join(f'<!ENTITY a{depth} "{f"&a{depth - 1};" * 10}">' for depth in range(1, 12))


@pytest.mark.parametrize(
    "declared",
    [
        laughs(),
        f'<!ENTITY a11 "{"l" * 100_000}">',
        '<!ENTITY a11 SYSTEM "file:///etc/passwd">',
        '<!ENTITY % a SYSTEM "file:///etc/passwd"> %a; <!ENTITY a11 "">',
    ],
)
def test_entities_are_refused_whatever_they_would_do(declared: str) -> None:
    """A document type is all that an attacker would need, and VOC has none."""
    body = xml(item("&a11;" * 1000)).decode()
    with pytest.raises(DatasetError, match="declares a document type"):
        parse(f"<!DOCTYPE annotation [{declared}]>{body}".encode(), "a.xml")


def test_huge_file_is_refused_unread() -> None:
    """No annotation is that large."""
    with pytest.raises(DatasetError, match="bytes"):
        parse(b" " * (voc_annotations.MAX_BYTES + 1), "a.xml")


def test_deeply_nested_file_does_no_harm() -> None:
    """Deep nesting costs memory, not the stack."""
    depth = 100_000
    assert parse(b"<a>" * depth + b"</a>" * depth, "a.xml") == Annotation(objects=(), unknown=())
