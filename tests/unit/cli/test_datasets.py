"""Registering and verifying datasets from the command line."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from db import datasets
from tests.services.world import World
from tests.unit.cli.answers import Npuq

LABELS = "a.JPEG 65\nb.JPEG 970\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the folder of a dataset of two images."""
    folder = tmp_path / "imagenet"
    (folder / "val").mkdir(parents=True)
    (folder / "val" / "a.JPEG").write_bytes(b"1")
    (folder / "val" / "b.JPEG").write_bytes(b"22")
    (folder / "val_label.txt").write_text(LABELS)
    return folder


@pytest.fixture
def registered(sqlite_world: World, npuq: Npuq, root: Path) -> Path:
    """Return a registered folder, under the name `small`."""
    del sqlite_world
    assert npuq("datasets", "add", "small", str(root)).code == 0
    return root


def digest(npuq: Npuq) -> str:
    """Return the digest of the only dataset."""
    (found,) = npuq("datasets", "list", "-o", "json").json
    assert isinstance(found["digest"], str)
    return found["digest"]


@pytest.mark.usefixtures("registered")
def test_a_manifest_lies_in_the_store_under_the_datasets_digest(npuq: Npuq, tmp_path: Path) -> None:
    """As every other input of a job."""
    name = digest(npuq)
    assert list(tmp_path.glob(f"store/*/*/{name}")) != []


def test_another_content_under_the_same_name_is_told(npuq: Npuq, registered: Path) -> None:
    """The same content again is not, and the size alone would not tell."""
    before = digest(npuq)
    again = npuq("datasets", "add", "small", str(registered))
    assert (again.code, again.err) == (0, f"small: 2 images, digest {before[:12]}\n")
    (registered / "val" / "b.JPEG").write_bytes(b"23")
    changed = npuq("datasets", "add", "small", str(registered))
    assert changed.code == 0
    assert f"small was another dataset until now ({before[:12]})" in changed.err
    assert digest(npuq) != before


def test_without_a_fleet_nothing_is_read(
    npuq: Npuq, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An hour of hashing must not end in this sentence."""
    monkeypatch.setattr("tasks.datasets.inspect", None)
    answer = npuq("datasets", "add", "small", str(root))
    assert answer.code == 3
    assert "npuq up" in " ".join(answer.err.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["imagenet"]


@pytest.mark.parametrize(
    ("spoil", "arguments", "said"),
    [
        (lambda root: (root / "val_label.txt").unlink(), (), "cannot be used as a dataset: no val_label.txt"),
        (shutil.rmtree, (), "there is no folder"),
        (lambda _: None, ("--format", "imagnet"), "Unknown dataset format 'imagnet'. Known: imagenet"),
    ],
    ids=["no labels", "no folder", "no format"],
)
@pytest.mark.usefixtures("sqlite_world")
def test_what_is_no_dataset_is_not_registered(
    npuq: Npuq, root: Path, spoil: Callable[[Path], object], arguments: tuple[str, ...], said: str
) -> None:
    """The reason is told."""
    spoil(root)
    answer = npuq("datasets", "add", "small", str(root), *arguments)
    assert answer.code in {1, 2}
    assert said in answer.err
    assert npuq("datasets", "list", "-o", "json").json == []


def test_verify_lists_what_differs(npuq: Npuq, registered: Path) -> None:
    """Exit code 1, the files on standard output, what to do on standard error."""
    good = npuq("datasets", "verify", "small")
    assert (good.code, good.out, good.err) == (0, "", "small: all 2 images are as registered\n")
    (registered / "val" / "a.JPEG").write_bytes(b"2")
    (registered / "val" / "b.JPEG").unlink()
    bad = npuq("datasets", "verify", "small")
    assert bad.code == 1
    assert [line.split(maxsplit=1) for line in bad.out.splitlines()[1:]] == [
        ["val/a.JPEG", "of other content"],
        ["val/b.JPEG", "missing"],
    ]
    assert "2 files differ" in bad.err
    assert f"npuq datasets add NEW_NAME {registered}" in bad.err
    listed = npuq("datasets", "verify", "small", "-o", "json")
    assert (listed.code, listed.json) == (
        1,
        [{"path": "val/a.JPEG", "change": "content"}, {"path": "val/b.JPEG", "change": "missing"}],
    )


def test_a_registration_without_a_manifest_is_to_be_made_again(sqlite_world: World, npuq: Npuq, root: Path) -> None:
    """Older versions kept a digest of names and sizes only."""
    sqlite_world.transact(datasets.put, name="old", format="imagenet", root=str(root), digest="d" * 64, samples=2)
    answer = npuq("datasets", "verify", "old")
    assert answer.code == 1
    assert f"Register it again and submit again: npuq datasets add old {root} --format imagenet" in answer.err


def test_a_dry_run_needs_no_folder(npuq: Npuq, registered: Path, tmp_path: Path) -> None:
    """What is planned is in the database; the pictures lie with the workers."""
    shutil.rmtree(registered)
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    options = ("--weights", str(weights), "--dataset", "small", "--soc", "Ascend310P3", "--dry-run", "-o", "json")
    answer = npuq("sweep", "mobilenet_v1", *options)
    assert answer.code == 0, answer.err
    assert {job["params"]["dataset_digest"] for job in answer.json if job["kind"] == "infer"} == {digest(npuq)}


def test_a_demo_is_made_and_can_be_registered_as_it_is_told(npuq: Npuq, sqlite_world: World, tmp_path: Path) -> None:
    """The last line is what to type next."""
    del sqlite_world
    made = npuq("datasets", "make-demo", "imagenet", str(tmp_path / "a set"), "--images", "3", "--seed", "7")
    assert (made.code, made.out) == (0, "")
    told = made.err.splitlines()
    assert told[0] == f"wrote 3 images of 3 classes in val, their classes in val_label.txt: {tmp_path / 'a set'}"
    assert npuq(*shlex.split(told[-1].removeprefix("Next: npuq "))).err.startswith("demo: 3 images")
    again = npuq("datasets", "make-demo", "imagenet", str(tmp_path / "a set"))
    assert (again.code, "holds something already" in again.err) == (2, True)


@pytest.mark.usefixtures("registered")
def test_a_dataset_is_shown_and_forgotten(npuq: Npuq, root: Path) -> None:
    """Its files stay; what is not registered is told in the same words everywhere."""
    shown = npuq("datasets", "show", "small", "-o", "json").json
    assert shown == npuq("datasets", "list", "-o", "json").json[0]
    assert (shown["root"], shown["samples"], shown["in_store"]) == (str(root), 2, False)
    assert "small is forgotten" in npuq("datasets", "remove", "small").err
    assert (root / "val" / "a.JPEG").is_file()
    for verb in ("remove", "show", "verify"):
        answer = npuq("datasets", verb, "small")
        assert (answer.code, answer.err) == (2, "error: no dataset 'small'; see: npuq datasets list\n")
