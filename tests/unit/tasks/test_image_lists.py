"""Lists of images are read as people write them, and mean the same however that was."""

import pytest

from npuq.errors import InvalidRequestError
from tasks.image_lists import MAX_BYTES, ImageList


def read(text: str) -> ImageList:
    """Read a list called `part.txt`."""
    return ImageList.read(text.encode(), "part.txt")


@pytest.mark.parametrize(
    "text",
    [
        "a\nb c\n",
        "b c\na",
        "\ufeffa\r\nb c\r\n\r\n",
        "# the first ones\n\n  a  \nb c\t# crowded\n   # the end",
    ],
)
def test_order_blanks_and_comments_do_not_matter(text: str) -> None:
    """The same images are the same list, with the same digest; blanks within an id are its own."""
    listed = read(text)
    assert set(listed.lines) == {"a", "b c"}
    assert listed.text == b"a\nb c\n"
    assert listed.digest == read("a\nb c").digest != read("a\nb").digest
    assert ImageList.read(listed.text, "again").text == listed.text


def test_a_hash_within_an_id_begins_no_comment() -> None:
    """Only at the beginning of a line or after a blank."""
    assert list(read("a#1\n#b\nc #2").lines) == ["a#1", "c"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\nb\n\na # again\n", r"part\.txt: images that are listed twice: 'a' \(lines 1 and 4\)"),
        (b"# nothing\n\n", r"part\.txt lists no image"),
        (b"", "lists no image"),
        (b"\x89PNG\xff\xfe", r"part\.txt is no list of images: .*write an image id a line"),
        (b"a\n" * (MAX_BYTES // 2 + 1), "at most 64 MiB"),
    ],
    ids=["doubled", "comments", "empty", "binary", "enormous"],
)
def test_what_is_no_list_is_refused(content: bytes, said: str) -> None:
    """With the lines, where there are any to name."""
    with pytest.raises(InvalidRequestError, match=said):
        ImageList.read(content, "part.txt")


def test_unknown_images_are_named_with_their_lines() -> None:
    """The first of them, and what the dataset's own ids look like."""
    listed = read("# some\n" + "\n".join(f"x{number}" for number in range(7)) + "\na\n")
    with pytest.raises(InvalidRequestError) as caught:
        listed.check_known({"a", "b"}, "small", "a")
    said = str(caught.value)
    assert "part.txt lists images that the dataset 'small' does not have, 7 of 8: 'x0' (line 2), 'x1' (line 3)" in said
    assert said.endswith("and 2 more. Its ids look like 'a'.")
    listed.check_known({*listed.lines, "more"}, "small", "a")
