"""Submitting: everything that can be refused is refused before anything is uploaded or sent."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.fleet_fit import absent_chips
from cli.submitting.upload import amount, finished, upload_bar
from db import datasets, devices
from db.records import DeviceRecord
from npuq.outbox import Outbox
from npuq.states import DeviceCause, DeviceState, JobKind
from tests.services.world import World
from tests.unit.cli.answers import Answer, Npuq
from tests.unit.cli.records import device_record

Sweep = Callable[..., Answer]


@pytest.fixture
def sweep(npuq: Npuq, sqlite_world: World, tmp_path: Path) -> Sweep:
    """Return `npuq sweep` of a small file on a registered dataset of 200 samples, with more options."""
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    sqlite_world.transact(
        datasets.put, name="small", format="imagenet", root=str(tmp_path), digest="d" * 64, samples=200
    )

    def call(*options: str, recipe: str = "mobilenet_v1", dataset: str = "small") -> Answer:
        given = () if "--weights" in options else ("--weights", str(weights))
        return npuq("sweep", recipe, *given, "--dataset", dataset, *options)

    return call


def _nothing_left_the_house(home: Path) -> bool:
    return not list(Outbox(home / "outbox").pending()) and not (home / "store").exists()


@pytest.mark.parametrize(
    ("options", "changes", "expected"),
    [
        ((), {"recipe": "mobilenet_v2"}, "Did you mean 'mobilenet_v1'?"),
        ((), {"dataset": "smal"}, "did you mean 'small'?"),
        (("--weights", "nowhere.pth"), {}, "there is no file nowhere.pth"),
        (("--onnx", "x.onnx"), {}, "exactly one of --weights, --onnx and --om"),
        (("--batch-sizes", "1,two"), {}, "numbers separated by commas"),
        (("--batch-sizes", "4,4"), {}, "listed twice"),
        (("--batch-sizes", "0"), {}, "each is from 1 to 4096"),
        (("--precision", "fp12"), {}, "choose from fp16, mixed, fp32, origin"),
        (("--soc", "310P3"), {}, "did you mean Ascend310P3?"),
        (("--soc", "310P3", "--dry-run"), {}, "soc_version"),
        (("--soc", "Ascend310p3"), {}, "did you mean Ascend310P3?"),
        (("--soc", "Ascend9999", "--dry-run"), {}, "npuq knows no such chip"),
        (("--name", "two\nlines"), {}, "name"),
        (("--recipe-option", "side=64"), {}, "Its options: none"),
        (("--recipe-option", "side"), {}, "--recipe-option is NAME=VALUE"),
        (("--recipe-option", "side=1", "--recipe-option", "side=2"), {}, "once for each"),
        (("--pin-pass", "main"), {}, "write PASS=DEVICE"),
        (("--pin-pass", "mian=h1.npu0.0"), {}, "did you mean 'main'?"),
        (("--pin-pass", "main=h1.npu7"), {}, "--pin-pass main: no device begins with 'h1.npu7'"),
        (("--pin-pass", "main=h1.npu"), {}, "is not unique"),
        (("--pin-pass", "main=h1.host.0"), {}, "is no chip"),
        (("--pin-pass", "main=h1.npu0.0", "--pin-pass", "main=h1.npu1.0"), {}, "pinned twice"),
        (("--pin-pass", "main=h1.npu0.0", "--soc", "Ascend910B4"), {}, "this run is for Ascend910B4"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_sent(
    options: tuple[str, ...], changes: dict[str, str], expected: str, sweep: Sweep, tmp_path: Path
) -> None:
    """Exit code 2, one sentence, nothing uploaded."""
    answer = sweep(*options, **changes)
    assert answer.code == 2
    assert expected in answer.err
    assert answer.out == ""
    assert _nothing_left_the_house(tmp_path)


def test_pins_and_scope_are_shown_by_a_dry_run(sweep: Sweep, sqlite_world: World) -> None:
    """A device by the beginning of its id; one that is sick is waited for, which is said."""
    sqlite_world.transact(devices.set_state, "h1.npu0.0", DeviceState.QUARANTINED, "Alarm", DeviceCause.ALARM)
    answer = sweep("--pin-pass", "main=h1.npu0", "--scope", "card", "--batch-sizes", "1", "--dry-run", "-o", "json")
    assert answer.code == 0, answer.err
    pinned = {job["pinned_device"] for job in answer.json if job["kind"] == "infer"}
    assert pinned == {"h1.npu0.0"}
    assert "pinned to h1.npu0.0, which is quarantined (Alarm); it waits for that device" in answer.err
    assert "benchmark card bs1 fp16" in {job["label"] for job in answer.json}


def test_an_empty_file_is_refused(sweep: Sweep, tmp_path: Path) -> None:
    """A download that failed leaves one."""
    empty = tmp_path / "empty.pth"
    empty.touch()
    assert "is empty" in sweep("--weights", str(empty)).err


def test_a_dry_run_prints_the_plan_and_sends_nothing(sweep: Sweep, tmp_path: Path) -> None:
    """The same plan as the scheduler's: shards cover every sample once, at each batch size."""
    answer = sweep("--batch-sizes", "1,8", "--dry-run", "-o", "json")
    assert answer.code == 0
    plan = answer.json
    assert [job["kind"] for job in plan].count("benchmark") == 2
    for batch_size in (1, 8):
        shards = [job["params"] for job in plan if job["kind"] == "infer" and job["params"]["batch_size"] == batch_size]
        assert [shard["start"] for shard in shards[1:]] == [shard["stop"] for shard in shards[:-1]]
        assert (shards[0]["start"], shards[-1]["stop"]) == (0, 200)
    assert _nothing_left_the_house(tmp_path)


def test_a_submission_without_a_fleet_waits_in_the_outbox(sweep: Sweep, npuq: Npuq, tmp_path: Path) -> None:
    """The id alone on stdout; stderr says that nobody listens and what to do."""
    answer = sweep("--batch-sizes", "1", "--limit", "50", "--priority", "5")
    assert answer.code == 0
    (spec,) = Outbox(tmp_path / "outbox").pending()
    assert answer.out == f"{spec.run_id}\n"
    assert "npuq up" in answer.err
    assert (spec.limit, spec.priority, spec.source.name) == (50, 5, "weights.pth")
    assert npuq("wait", spec.run_id[:20], "--timeout", "0s").code == 4
    assert npuq("status", "-o", "json").json["outbox"] == 1


def test_a_recipe_is_planned_with_its_options_and_its_own_precision(npuq: Npuq, tmp_path: Path) -> None:
    """Full precision where its model needs that and nothing is typed; what is typed counts."""
    (tmp_path / "weights.pth").write_bytes(b"weights")
    weights = ("--weights", str(tmp_path / "weights.pth"), "--soc", "Ascend310P3", "--dry-run", "-o", "json")
    command = ("submit", "convert", "pyramidbox", *weights, "--recipe-option", "side=128")
    export, convert = (job["params"] for job in npuq(*command).json)
    assert export == {"batch_size": 1, "recipe_options": {"side": "128"}}
    assert (convert["precision"], convert["recipe_options"]) == ("fp32", {"side": "128"})
    (_, convert) = (job["params"] for job in npuq(*command, "--precision", "fp16").json)
    assert convert["precision"] == "fp16"


def test_the_references_scales_are_for_a_cpu(npuq: Npuq, sqlite_world: World, tmp_path: Path) -> None:
    """A chip's model has one size: a run that would need one is refused, with what to do."""
    (tmp_path / "weights.pth").write_bytes(b"weights")
    sqlite_world.transact(
        datasets.put, name="faces", format="widerface", root=str(tmp_path), digest="d" * 64, samples=200
    )
    weights = ("--weights", str(tmp_path / "weights.pth"), "--dataset", "faces", "--dry-run", "-o", "json")
    command = ("submit", "evaluate", "pyramidbox", *weights, "--test-scales", "reference")
    export, evaluate = (job["params"] for job in npuq(*command, "--reference").json)
    assert export["recipe_options"] == evaluate["recipe_options"] == {"test_scales": "reference"}
    assert evaluate["passes"] == ["original", "flipped", "shrunk", "enlarged"]
    refused = npuq(*command, "--soc", "Ascend310P3")
    assert refused.code == 2
    assert "--reference" in refused.err


@pytest.mark.parametrize(
    ("recipe", "dataset_format", "typed", "swept"),
    [
        ("pyramidbox", "widerface", (), [1]),
        ("pyramidbox", "widerface", ("--batch-sizes", "2,4"), [2, 4]),
        ("mobilenet_v1", "imagenet", (), [1, 4, 8, 16, 32, 64]),
    ],
)
def test_a_sweep_measures_the_batch_sizes_that_the_recipe_prefers(
    recipe: str, dataset_format: str, typed: tuple[str, ...], swept: list[int], sweep: Sweep, sqlite_world: World
) -> None:
    """Where none are typed: more than one picture of PyramidBox does not fit on the guide's chip."""
    sqlite_world.transact(datasets.put, name="own", format=dataset_format, root="/", digest="e" * 64, samples=4)
    plan = sweep(*typed, "--dry-run", "-o", "json", recipe=recipe, dataset="own").json
    assert [job["params"]["batch_size"] for job in plan if job["kind"] == "benchmark"] == swept


@pytest.fixture
def part(npuq: Npuq, sqlite_world: World, tmp_path: Path) -> Path:
    """Return where a list of images may be written; the dataset `real` has the images a, b, c."""
    del sqlite_world
    (tmp_path / "real" / "val").mkdir(parents=True)
    for name in "abc":
        (tmp_path / "real" / "val" / f"{name}.JPEG").write_text(name)
    (tmp_path / "real" / "val_label.txt").write_text("a 1\nb 2\nc 3\n")
    assert npuq("datasets", "add", "real", str(tmp_path / "real")).code == 0
    return tmp_path / "part.txt"


def test_a_list_of_images_travels_as_an_input(sweep: Sweep, part: Path, tmp_path: Path) -> None:
    """The specification has its digest and its length; the store has its canonical text."""
    part.write_text("# mine\nc\na  # the best\n")
    plan = sweep("--images", str(part), "--dry-run", "-o", "json", dataset="real").json
    (evaluate, *_) = [job["params"] for job in plan if job["kind"] == "evaluate"]
    assert (evaluate["samples"], evaluate["images"]["count"]) == (2, 2)
    assert sweep("--images", str(part), dataset="real").code == 0
    (spec,) = Outbox(tmp_path / "outbox").pending()
    assert spec.images is not None
    assert evaluate["images"] == spec.images.model_dump()
    (stored,) = tmp_path.glob(f"store/*/*/{spec.images.digest}")
    assert stored.read_text() == "a\nc\n"


@pytest.mark.parametrize("on_paper", [("--dry-run",), ()])
@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("a\nx\n", (), "part.txt lists images that the dataset 'real' does not have, 1 of 2: 'x' (line 2)"),
        ("a\nb\na\n", (), "part.txt: images that are listed twice: 'a' (lines 1 and 3)"),
        ("a\n", ("--limit", "1"), "--limit and --images exclude each other"),
        (None, (), "--images: cannot read"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(
    sweep: Sweep,
    part: Path,
    tmp_path: Path,
    text: str | None,
    options: tuple[str, ...],
    said: str,
    *,
    on_paper: tuple[str, ...],
) -> None:
    """With the images and their lines, before anything is sent."""
    if text is not None:
        part.write_text(text)
    answer = sweep("--images", str(part), *options, *on_paper, dataset="real")
    assert answer.code == 2
    assert said in " ".join(answer.err.split())
    assert not list(Outbox(tmp_path / "outbox").pending())


def test_without_a_fleet_a_list_is_read_all_the_same(npuq: Npuq, tmp_path: Path) -> None:
    """What its dataset does not have is found by the workers; what is wrong with it at all is found now."""
    (tmp_path / "weights.pth").write_bytes(b"weights")
    (tmp_path / "part.txt").write_text("a\nb\na\n")
    given = ("--weights", "weights.pth", "--dataset", "real", "--images", "part.txt")
    assert npuq("submit", "infer", "mobilenet_v1", *given).code == 2
    (tmp_path / "part.txt").write_text("a\nb\n")
    assert npuq("submit", "infer", "mobilenet_v1", *given).code == 0
    (spec,) = Outbox(tmp_path / "outbox").pending()
    assert spec.images is not None
    assert spec.images.count == 2


@pytest.mark.usefixtures("sweep")
def test_each_goal_has_its_own_command(npuq: Npuq, tmp_path: Path) -> None:
    """`submit benchmark` needs no dataset, `submit evaluate` does."""
    weights = str(tmp_path / "weights.pth")
    plan = npuq("submit", "benchmark", "mobilenet_v1", "--weights", weights, "--dry-run", "-o", "json").json
    assert [job["kind"] for job in plan] == ["export", "convert", "benchmark"]
    answer = npuq("submit", "evaluate", "mobilenet_v1", "--weights", weights)
    assert (answer.code, "evaluate needs a dataset" in answer.err) == (2, True)


@pytest.mark.usefixtures("sweep")
def test_a_reference_is_one_job_without_a_chip(npuq: Npuq, tmp_path: Path) -> None:
    """And says so when a chip is asked for all the same."""
    weights = str(tmp_path / "weights.pth")
    given = ("submit", "evaluate", "mobilenet_v1", "--weights", weights, "--dataset", "small", "--reference")
    plan = npuq(*given, "--dry-run", "-o", "json").json
    assert [job["kind"] for job in plan] == ["export", "evaluate"]
    answer = npuq(*given, "--soc", "Ascend310P3")
    assert answer.code == 2
    assert "a reference runs on no chip" in answer.err


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize("on_paper", [("--dry-run",), ()])
def test_a_chip_that_the_fleet_lacks_is_missed_aloud(on_paper: tuple[str, ...], npuq: Npuq, tmp_path: Path) -> None:
    """The run is accepted, and its owner knows at once why it will wait; a conversion needs no chip."""
    given = ("mobilenet_v1", "--weights", str(tmp_path / "weights.pth"), *on_paper)
    answer = npuq("submit", "benchmark", *given, "--soc", "Ascend910B3")
    assert answer.code == 0
    assert "warning: no Ascend910B3 is in the fleet now (it has Ascend310P3)" in answer.err
    assert "warning" not in npuq("submit", "benchmark", *given, "--soc", "Ascend310P3").err
    assert "warning" not in npuq("submit", "convert", *given, "--soc", "Ascend910B3").err


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize("on_paper", [("--dry-run",), ()])
def test_a_cann_that_the_fleet_lacks_is_missed_aloud(on_paper: tuple[str, ...], npuq: Npuq, tmp_path: Path) -> None:
    """The conversion is accepted, as a host may come; its owner knows what it waits for."""
    given = ("submit", "convert", "mobilenet_v1", "--weights", str(tmp_path / "weights.pth"), "--soc", "Ascend310P3")
    answer = npuq(*given, "--cann", "9.9", *on_paper)
    assert answer.code == 0
    assert "warning: no CANN 9.9 is in the fleet now (it has 8.0.0)" in answer.err
    assert "warning" not in npuq(*given, "--cann", "8.0.0", *on_paper).err


def test_why_names_the_chip_that_a_run_waits_for(npuq: Npuq, sqlite_world: World) -> None:
    """Also while its conversion is still running."""
    convert, bench = sqlite_world.new_job(JobKind.CONVERT), sqlite_world.new_job(soc_version="Ascend910B3")
    run_id = sqlite_world.plan(convert, bench)
    assert "no Ascend910B3 is in the fleet now" in npuq("why", run_id).out
    assert "no Ascend910B3 is in the fleet now" in npuq("why", bench.job_id).out


def test_a_plan_needs_no_fleet_where_nothing_is_asked_of_it(npuq: Npuq, tmp_path: Path) -> None:
    """The chip is named and there is no dataset: the plan is as with a fleet, and nothing is made."""
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    given = ("--weights", str(weights), "--dry-run", "-o", "json")
    answer = npuq("submit", "benchmark", "mobilenet_v1", *given, "--soc", "Ascend310P3")
    assert answer.code == 0
    assert [job["kind"] for job in answer.json] == ["export", "convert", "benchmark"]
    assert "planned without a fleet" in answer.err
    unnamed = npuq("submit", "benchmark", "mobilenet_v1", *given)
    assert (unnamed.code, "--soc" in unnamed.err) == (2, True)
    assert not (tmp_path / "npuq.sqlite3").exists()


def test_a_dataset_that_is_registered_nowhere_is_an_error_of_its_own(npuq: Npuq, tmp_path: Path) -> None:
    """With the whole way to it; a submission is kept all the same, and says what it needs."""
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    given = ("sweep", "mobilenet_v1", "--weights", str(weights), "--dataset", "imagenet")
    planned = npuq(*given, "--dry-run")
    assert planned.code == 2
    assert "no dataset 'imagenet' is registered anywhere" in planned.err
    assert planned.err.index("npuq up") < planned.err.index("npuq datasets add imagenet FOLDER")
    sent = npuq(*given)
    assert sent.code == 0
    assert "npuq datasets add imagenet FOLDER" in sent.err


def test_an_upload_says_how_much_of_how_much_how_fast() -> None:
    """From its first moment, when there is no rate yet, to its end."""
    mib = 2**20
    assert amount(0, 16 * mib, 0.0) == "0 B of 16.0 MiB"
    assert amount(12 * mib, 16 * mib, 2.0) == "12.0 MiB of 16.0 MiB, 6.0 MiB/s"
    assert finished(16 * mib, 2.0) == "16.0 MiB in 2.0s, 8.0 MiB/s"


@pytest.mark.parametrize(("pieces", "told"), [(5, "uploaded weights: 5.0 MiB in "), (1, "weights is in the store")])
def test_the_end_of_an_upload_stays_on_the_terminal(
    pieces: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bar goes, a line stays; what the store had already was not uploaded."""
    path = tmp_path / "weights"
    path.write_bytes(bytes(5 * 2**20))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with upload_bar(path) as advance:
        assert advance is not None
        for _ in range(pieces):
            advance(5 * 2**20 // pieces)
    assert told in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("device", "sentences"),
    [
        (device_record(), []),
        (device_record(state=DeviceState.LOST), ["no Ascend310P3 is in the fleet now (it has no chip): "]),
        (device_record(soc_version="Ascend910B3"), ["no Ascend310P3 is in the fleet now (it has Ascend910B3): "]),
    ],
)
def test_a_chip_is_absent_when_no_device_of_its_kind_is_there(device: DeviceRecord, sentences: list[str]) -> None:
    """Lost ones do not count; any chip will do where none is named."""
    told = absent_chips(["Ascend310P3", None], [device])
    assert told == [f"{sentence}the jobs for it wait until one is" for sentence in sentences]
