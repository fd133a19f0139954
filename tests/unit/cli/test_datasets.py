"""Registering and verifying datasets from the command line."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db import datasets
from db.tables import Artifact
from npuq.entry import INSTALLATION
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
    monkeypatch.setenv("NPUQ_DATABASE_URL", f"sqlite:///{tmp_path / 'own.sqlite3'}")
    answer = npuq("datasets", "add", "small", str(root))
    assert answer.code == 3
    assert "npuq db upgrade" in " ".join(answer.err.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["imagenet"]


def test_a_home_can_be_prepared_before_its_fleet_is_up(npuq: Npuq, root: Path, tmp_path: Path) -> None:
    """What is registered is there for a plan on paper, and for `npuq up`."""
    answer = npuq("datasets", "add", "small", str(root))
    assert (answer.code, "npuq up" in answer.err) == (0, True)
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"w")
    sweep = ("sweep", "mobilenet_v1", "--weights", str(weights), "--dataset", "small", "--batch-sizes", "1")
    planned = npuq(*sweep, "--soc", "Ascend310P3", "--dry-run", "-o", "name")
    assert "evaluate bs1 fp16" in planned.out.splitlines()
    assert "npuq up" not in npuq("datasets", "add", "small", str(root)).err


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
    assert "files that differ: 2" in bad.err
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


# --- in the store ----------------------------------------------------------------------------------------------------


def stored(home: Path) -> set[str]:
    """Return the contents of the store's files, manifests left out."""
    contents = {path.read_text() for path in home.glob("store/*/*/*") if not path.name.startswith(".")}
    return {content for content in contents if "npuq.dataset" not in content}


@pytest.mark.usefixtures("sqlite_world")
def test_every_file_goes_to_the_store_once(npuq: Npuq, root: Path, tmp_path: Path) -> None:
    """Images and labels; again, nothing is sent, and what is new is."""
    first = npuq("datasets", "add", "small", str(root), "--store")
    assert first.code == 0, first.err
    assert first.err.endswith("; 3 files in the store, 3 sent now (24 B)\n")
    assert stored(tmp_path) == {"1", "22", LABELS}
    shown = npuq("datasets", "show", "small", "-o", "json").json
    assert (shown["in_store"], shown["size_bytes"], shown["root"]) == (True, 24, str(root))
    assert npuq("datasets", "add", "small", str(root), "--store").err.endswith(
        "3 files in the store, all there already\n"
    )
    (root / "val" / "b.JPEG").write_text("33")
    assert npuq("datasets", "add", "small", str(root), "--store").err.endswith("1 sent now (2 B)\n")


@pytest.mark.usefixtures("sqlite_world")
def test_rows_promise_what_the_store_has(npuq: Npuq, root: Path, sqlite_world: World) -> None:
    """Whoever cleans the store up one day knows these files by their rows."""
    assert npuq("datasets", "add", "small", str(root), "--store").code == 0
    with sqlite_world.database.read() as connection:
        rows = connection.execute(select(Artifact.size_bytes)).scalars().all()
    assert sorted(rows)[:3] == [1, 2, 21]
    assert len(rows) == 4


@pytest.mark.usefixtures("sqlite_world")
def test_an_upload_that_is_killed_goes_on_where_it_was(npuq: Npuq, root: Path, tmp_path: Path) -> None:
    """Nothing is registered by half, and what was sent is not sent again."""
    for number in range(20):
        (root / "val" / f"c{number:02}.JPEG").write_text(f"picture {number}")
    (root / "val_label.txt").write_text(LABELS + "".join(f"c{number:02} 1\n" for number in range(20)))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(INSTALLATION), "datasets", "add", "small", str(root), "--store"],
        env=os.environ | {"NPUQ_HOME": str(tmp_path)},
        check=False,
        timeout=50,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert npuq("datasets", "list", "-o", "json").json == []
    sent = len(stored(tmp_path))
    assert 0 < sent < 23
    again = npuq("datasets", "add", "small", str(root), "--store")
    assert again.err.split("; ")[-1].startswith(f"23 files in the store, {23 - sent} sent now")
    assert npuq("datasets", "verify", "small", "--store").code == 0


#: The command line, killed when the sixth file has its name.
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from cli.main import run
from db import artifacts
copies = []
copy = artifacts.copy_durably
def dying(*arguments):
    copy(*arguments)
    copies.append(1)
    if len(copies) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
artifacts.copy_durably = dying
run(sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.unlink(), "b.JPEG cannot be read: No such file or directory, after the dataset was hashed"),
        (lambda file: file.write_text("33"), "b.JPEG changed while it was read, after the dataset was hashed"),
    ],
    ids=["gone", "changed"],
)
@pytest.mark.usefixtures("sqlite_world")
def test_a_file_that_goes_between_hashing_and_sending_is_named(
    npuq: Npuq, root: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], object], said: str
) -> None:
    """Nothing is registered; the folder, not the store, is to blame."""
    from tasks import datasets as registry

    inspect = registry.inspect

    def then_spoiled(*arguments: Any, **options: Any) -> Any:
        facts = inspect(*arguments, **options)
        spoil(root / "val" / "b.JPEG")
        return facts

    monkeypatch.setattr(registry, "inspect", then_spoiled)
    answer = npuq("datasets", "add", "small", str(root), "--store")
    assert answer.code == 1
    assert said in " ".join(answer.err.split())
    assert npuq("datasets", "list", "-o", "json").json == []


@pytest.mark.usefixtures("sqlite_world")
def test_a_store_that_is_away_is_the_fleets_trouble(
    npuq: Npuq, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The dataset is as good as before, and nothing of it is registered."""
    (tmp_path / "blocked").write_text("no folder")
    monkeypatch.setenv("NPUQ_STORE_URL", f"local://{tmp_path / 'blocked'}")
    answer = npuq("datasets", "add", "small", str(root), "--store")
    assert answer.code == 3
    assert "cannot reach the artifact store local://" in " ".join(answer.err.split())
    assert npuq("datasets", "list", "-o", "json").json == []


@pytest.mark.usefixtures("sqlite_world")
def test_verify_finds_what_the_store_has_lost(npuq: Npuq, root: Path, tmp_path: Path) -> None:
    """And only where the dataset is kept there."""
    assert npuq("datasets", "add", "small", str(root)).code == 0
    assert (npuq("datasets", "verify", "small", "--store").code) == 2
    assert npuq("datasets", "add", "small", str(root), "--store").code == 0
    good = npuq("datasets", "verify", "small", "--store")
    assert (good.code, good.err) == (0, "small: the store has every file\n")
    (lost,) = [path for path in tmp_path.glob("store/*/*/*") if path.read_text() == "22"]
    lost.unlink()
    shutil.rmtree(root)  # without a folder there is only the store to look into
    bad = npuq("datasets", "verify", "small", "-o", "json")
    assert (bad.code, bad.json) == (1, [{"path": "val/b.JPEG", "change": "missing"}])
    assert "npuq datasets add small FOLDER --format imagenet --store" in bad.err


def test_a_dataset_that_leaves_the_store_is_told(npuq: Npuq, registered: Path) -> None:
    """From then on workers look for a folder."""
    assert npuq("datasets", "add", "small", str(registered), "--store").code == 0
    assert "was kept in the store until now" in npuq("datasets", "add", "small", str(registered)).err


# --- on one host -----------------------------------------------------------------------------------------------------


def test_a_host_may_have_it_elsewhere(npuq: Npuq, registered: Path) -> None:
    """`list` and `show` tell where; the usual folder stays; a host that nobody knows is pointed out."""
    told = npuq("datasets", "add", "small", "/mnt/small", "--host", "h1").err
    assert told == "h1 has small in /mnt/small; compare its files there with: npuq datasets verify small\n"
    assert "no host h9 has joined" in npuq("datasets", "add", "small", "/mnt/other", "--host", "h9").err
    assert npuq("datasets", "show", "small", "-o", "json").json["folders"] == {"h1": "/mnt/small", "h9": "/mnt/other"}
    assert f"{registered}; on h1: /mnt/small; on h9: /mnt/other" in npuq("datasets", "list").out
    assert npuq("datasets", "remove", "small", "--host", "h9").code == 0
    assert npuq("datasets", "remove", "small", "--host", "h9").code == 2
    assert npuq("datasets", "show", "small", "-o", "json").json["folders"] == {"h1": "/mnt/small"}
    (registered / "val" / "b.JPEG").write_text("33")
    assert "single hosts had for it are forgotten: h1" in npuq("datasets", "add", "small", str(registered)).err


def test_the_folder_of_this_host_is_looked_at(
    npuq: Npuq, registered: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """When it is noted, and by `verify` from then on."""
    monkeypatch.setenv("NPUQ_HOST_NAME", "h1")
    own = tmp_path / "own"
    assert npuq("datasets", "add", "small", str(own), "--host", "h1").code == 3
    shutil.copytree(registered, own)
    assert npuq("datasets", "add", "small", str(own), "--host", "h1").code == 0
    (own / "val" / "a.JPEG").write_text("2")
    assert npuq("datasets", "verify", "small").code == 1
    (own / "val" / "a.JPEG").unlink()
    moved = npuq("datasets", "add", "small", str(own), "--host", "h1")
    assert (moved.code, "1 missing (val/a.JPEG)" in moved.err) == (3, True)


@pytest.mark.usefixtures("sqlite_world")
def test_a_host_may_be_the_first_to_have_it(npuq: Npuq, root: Path) -> None:
    """If the folder can be read here; else nothing says what should be in it."""
    absent = npuq("datasets", "add", "small", "/nowhere", "--host", "h1")
    assert (absent.code, "register it first" in " ".join(absent.err.split())) == (2, True)
    assert npuq("datasets", "add", "small", str(root), "--host", "h1").code == 0
    shown = npuq("datasets", "show", "small", "-o", "json").json
    assert (shown["root"], shown["folders"]) == (str(root), {"h1": str(root)})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("/x", "--host", "h1", "--store"), "give one"),
        (("x", "--host", "h1"), "from / on"),
        (("/x", "--host", "h1", "--format", "voc"), "is registered in imagenet format, not in voc format"),
    ],
)
@pytest.mark.usefixtures("registered")
def test_what_a_host_cannot_have_is_refused(npuq: Npuq, arguments: tuple[str, ...], said: str) -> None:
    """Nothing is noted."""
    answer = npuq("datasets", "add", "small", *arguments)
    assert (answer.code, said in " ".join(answer.err.split())) == (2, True)
    assert npuq("datasets", "show", "small", "-o", "json").json["folders"] == {}
