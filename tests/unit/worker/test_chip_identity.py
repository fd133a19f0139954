from worker.chip_identity import FoundChip, assign, identities


def _chip(npu_id: int, chip_id: int = 0, bus_id: str | None = "0000:01:00.0", die_id: str | None = None) -> FoundChip:
    return FoundChip(npu_id=npu_id, chip_id=chip_id, bus_id=bus_id, die_id=die_id)


def _known(chips: list[FoundChip]) -> dict[str, str]:
    return {identity: row for row, identity in assign("h", chips, {})}


def test_new_chips_are_named_by_their_place() -> None:
    """Card and chip."""
    chips = [_chip(4, 0, die_id="A"), _chip(4, 1, die_id="B")]
    assert assign("h", chips, {}) == [("h.npu4.0", "h/die/A"), ("h.npu4.1", "h/die/B")]


def test_a_chip_under_another_number_is_the_same_row() -> None:
    """Renumbering, and swapped slots, change no row; not even when two chips swap their numbers."""
    before = [_chip(0, bus_id="b0", die_id="A"), _chip(1, bus_id="b1", die_id="B")]
    known = _known(before)
    after = [_chip(0, bus_id="b1", die_id="B"), _chip(1, bus_id="b0", die_id="A"), _chip(2, bus_id="b2", die_id="C")]
    assert [row for row, _ in assign("h", after, known)] == ["h.npu1.0", "h.npu0.0", "h.npu2.0"]


def test_a_new_chip_in_an_old_place_is_another_row() -> None:
    """A card that was replaced does not inherit its predecessor's history."""
    known = _known([_chip(0, bus_id="b0", die_id="A")])
    ((row, identity),) = assign("h", [_chip(0, bus_id="b0", die_id="Z")], known)
    assert identity == "h/die/Z"
    assert row.startswith("h.npu0.0-")


def test_without_a_die_id_the_bus_tells_chips_apart() -> None:
    """The chips of a Duo share a bus id, and have chip ids."""
    known = _known([_chip(1, 0), _chip(1, 1)])
    assert [row for row, _ in assign("h", [_chip(7, 0), _chip(7, 1)], known)] == ["h.npu1.0", "h.npu1.1"]


def test_boards_have_only_their_numbers() -> None:
    """NPU and chip id."""
    assert identities("h", [_chip(0, bus_id=None)]) == [("h/0/0",)]


def test_a_die_id_that_becomes_known_keeps_the_row() -> None:
    """A row from before, known by its bus, is found and gets the stronger identity."""
    known = _known([_chip(0, bus_id="b0"), _chip(1, bus_id="b1")])
    found = [_chip(0, bus_id="b0", die_id="A"), _chip(1, bus_id="b1", die_id="B")]
    assert assign("h", found, known) == [("h.npu0.0", "h/die/A"), ("h.npu1.0", "h/die/B")]


def test_slices_of_one_chip_do_not_share_a_row() -> None:
    """A die id that two have tells nothing."""
    slices = [_chip(32768, bus_id="b0", die_id="A"), _chip(32769, bus_id="b1", die_id="A")]
    assert [identity for _, identity in assign("h", slices, {})] == ["h/b0/0", "h/b1/0"]


def test_rows_are_never_given_twice() -> None:
    """Not even when two chips claim the same place."""
    known = {"h/b0/0": "h.npu0.0"}
    rows = [row for row, _ in assign("h", [_chip(0, bus_id="b0"), _chip(0, bus_id="b0")], known)]
    assert len(set(rows)) == 2
