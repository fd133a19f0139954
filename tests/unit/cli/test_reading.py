"""The reading commands over rows: stable JSON, ids by prefix, and sentences where there is nothing."""

from pathlib import Path

import pytest

from db import jobs, logs, runs
from db.schema import newest_revision
from npuq.errors import ArtifactError, Blame, ErrorInfo
from npuq.retry import Decision
from npuq.states import JobKind, JobState
from tests.services.world import CHIP, DIGEST, INPUT_ERROR, OTHER_CHIP, OWNER, Placed, World, new_result
from tests.unit.cli.answers import Npuq

RUN_KEYS = {"run_id", "name", "state", "created_at", "finished_at", "jobs"}
JOB_KEYS = {"job_id", "run_id", "kind", "recipe", "state", "attempt", "device_id", "reused_from", "error", "params"}
DEVICE_KEYS = {
    *("device_id", "host", "npu_id", "chip_id", "logic_id", "name", "soc_version", "health", "state", "emulated"),
}
RESULT_KEYS = {
    *("result_id", "run_id", "job_id", "kind", "recipe", "dataset", "samples", "soc_version", "device_id", "emulated"),
    *("batch_size", "precision", "quality", "metrics", "created_at"),
}


def test_without_a_fleet_there_is_a_sentence(npuq: Npuq) -> None:
    """No empty database is made to hide that there is none."""
    answer = npuq("runs", "list")
    assert answer.code == 3
    assert "npuq up" in answer.err
    assert answer.out == ""


def test_runs_have_the_documented_json(npuq: Npuq, sqlite_world: World) -> None:
    """`list` gives a list of what `show` gives."""
    job = sqlite_world.job(JobState.SUCCEEDED)
    listed = npuq("runs", "list", "-o", "json").json
    shown = npuq("runs", "show", job.run_id[:20], "-o", "json").json
    assert listed == [shown]
    assert set(shown) >= RUN_KEYS
    assert shown["jobs"] == {"succeeded": 1}


def test_jobs_have_the_documented_json(npuq: Npuq, sqlite_world: World) -> None:
    """An error is a document with its code, blame and message."""
    failed = sqlite_world.job(JobState.FAILED)
    (document,) = npuq("jobs", "list", "--run", "@last", "-o", "json").json
    assert set(document) >= JOB_KEYS
    assert document["job_id"] == failed.job_id
    assert document["state"] == "failed"
    assert document["error"].items() >= {"code": INPUT_ERROR.code, "blame": "input"}.items()
    assert document["params"] == {"batch_size": 1, "precision": "fp16"}
    assert npuq("jobs", "list", "--state", "running", "-o", "name").out == ""
    detail = npuq("jobs", "show", failed.job_id[:10], "-o", "json").json
    assert [attempt["state"] for attempt in detail["attempts"]] == ["failed"]


@pytest.mark.parametrize("noun", ["runs", "jobs", "results"])
def test_a_list_that_is_cut_says_so(noun: str, npuq: Npuq, sqlite_world: World) -> None:
    """A program that counts the jobs of a large run must not take a thousand for all."""
    for _ in range(2):
        sqlite_world.job(JobState.SUCCEEDED, JobKind.BENCHMARK, result=new_result())
    cut = npuq(noun, "list", "--limit", "1", "-o", "json")
    assert (len(cut.json), cut.err) == (1, "only the first 1 are shown, there are more: --limit N\n")
    assert npuq(noun, "list", "--limit", "2", "-o", "json").err == ""


def test_devices_list_shows_chips_and_on_demand_slots(npuq: Npuq, sqlite_world: World) -> None:
    """A chip that runs a job is busy."""
    sqlite_world.job(JobState.RUNNING, device_id=CHIP)
    chips = npuq("devices", "list", "-o", "json").json
    assert {chip["device_id"]: chip["state"] for chip in chips} == {CHIP: "busy", OTHER_CHIP: "online"}
    assert all(set(chip) >= DEVICE_KEYS for chip in chips)
    assert len(npuq("devices", "list", "--all", "-o", "name").out.splitlines()) == 4


def test_results_have_the_documented_json_and_filters(npuq: Npuq, sqlite_world: World) -> None:
    """Raw numbers by metric name; filters leave out what does not fit."""
    result = new_result(metrics={"throughput_fps": (1.5, "fps")})
    job = sqlite_world.job(JobState.SUCCEEDED, JobKind.BENCHMARK, result=result)
    (document,) = npuq("results", "list", "--run", job.run_id, "--kind", "performance", "-o", "json").json
    assert set(document) >= RESULT_KEYS
    assert document["metrics"] == {"throughput_fps": 1.5}
    assert document["emulated"] is True
    assert npuq("results", "list", "--batch-size", "64", "-o", "json").json == []
    assert npuq("results", "list", "--since", "1d", "-o", "name").out.strip() == document["result_id"]
    assert npuq("results", "show", document["result_id"][:8], "-o", "json").json["facts"] == {"loops": 10}


def test_a_prefix_must_stand_for_one_thing(npuq: Npuq, sqlite_world: World) -> None:
    """Two candidates are named, none is an error that says where to look."""
    first, second = (sqlite_world.job().run_id for _ in range(2))
    shared = "".join(a for a, b in zip(first[:8], second[:8], strict=True) if a == b)[:1]
    ambiguous = npuq("runs", "show", shared)
    assert ambiguous.code == 2
    assert "not unique" in ambiguous.err
    unknown = npuq("why", "zzz")
    assert unknown.code == 2
    assert "npuq runs list" in unknown.err


@pytest.mark.usefixtures("sqlite_world")
def test_draining_and_resuming_a_device(npuq: Npuq) -> None:
    """The reason is kept; resuming forgets it."""
    assert npuq("devices", "drain", CHIP, "--reason", "moves to rack 2").code == 0
    by_id = {chip["device_id"]: chip for chip in npuq("devices", "list", "-o", "json").json}
    assert (by_id[CHIP]["state"], by_id[CHIP]["reason"]) == ("draining", "moves to rack 2")
    assert npuq("devices", "resume", CHIP).err == f"{CHIP}: draining -> online\n"
    ambiguous = npuq("devices", "drain", "h1.npu")
    assert (ambiguous.code, "not unique" in ambiguous.err) == (2, True)


@pytest.mark.usefixtures("sqlite_world")
def test_what_happened_to_a_device_is_read_back(npuq: Npuq) -> None:
    """Newest first, with who did it and why; `show` has the last ones beside what the device is."""
    npuq("devices", "quarantine", CHIP, "--reason", "smells of smoke")
    npuq("devices", "resume", CHIP)
    events = npuq("devices", "events", CHIP, "-o", "json").json
    assert [(event["state"], event["cause"], event["reason"]) for event in events] == [
        ("online", "person", None),
        ("quarantined", "person", "smells of smoke"),
        ("online", "found", "seen for the first time"),
    ]
    everywhere = npuq("devices", "events", "-o", "json").json
    assert {event["device_id"] for event in everywhere} > {CHIP, OTHER_CHIP}
    assert npuq("devices", "events", "--limit", "1", "-o", "json").json == events[:1]
    assert npuq("devices", "events", "--since", "2999-01-01", "-o", "json").json == []
    assert npuq("devices", "events", CHIP, "--since", "1h", "-o", "json").json == events
    shown = npuq("devices", "show", CHIP, "-o", "json").json
    assert set(shown) >= DEVICE_KEYS
    assert (shown["state"], shown["cause"], shown["events"]) == ("online", "person", events)
    assert "smells of smoke" in npuq("devices", "show", CHIP).out
    assert npuq("devices", "events", "nowhere").code == 2


def test_cancel_and_retry_take_several_ids(npuq: Npuq, sqlite_world: World) -> None:
    """A waiting job is cancelled at once, a running one by its worker's beat; retry brings back the first."""
    waiting, running = sqlite_world.job(JobState.WAITING), sqlite_world.job(JobState.RUNNING)
    answer = npuq("cancel", waiting.run_id, running.job_id)
    assert answer.code == 0
    first, second = answer.err.splitlines()
    assert first == f"run {waiting.run_id}: 1 cancelled"
    assert second.startswith(f"job {running.job_id}: 1 running; ")
    assert npuq("retry", waiting.run_id).err == f"run {waiting.run_id}: 1 job tried again\n"
    assert npuq("jobs", "list", "--run", waiting.run_id, "-o", "json").json[0]["state"] == "waiting"


@pytest.mark.parametrize("command", [("cancel",), ("retry",), ("wait",), ("jobs", "show"), ("devices", "drain")])
def test_an_empty_id_is_no_beginning_of_every_id(command: tuple[str, ...], npuq: Npuq, sqlite_world: World) -> None:
    """The variable of a script that is not set must not cancel the only run."""
    job = sqlite_world.job(JobState.RUNNING)
    answer = npuq(*command, "")
    assert answer.code == 2
    assert "an empty id stands for nothing" in answer.err
    assert not sqlite_world.record(job).cancel_requested


def test_retry_makes_again_what_the_store_has_lost_or_asks_for_it(
    npuq: Npuq, sqlite_world: World, tmp_path: Path
) -> None:
    """What a person uploaded has to be uploaded again first; nothing is tried before."""
    convert = sqlite_world.new_job(JobKind.CONVERT, label="convert", inputs={"weights": (DIGEST,)})
    child = sqlite_world.new_job(parents={"om": ("convert",)})
    run_id = sqlite_world.plan(convert, child)
    sqlite_world.bring(Placed(job_id=convert.job_id, run_id=run_id), JobState.SUCCEEDED)
    running = sqlite_world.bring(Placed(job_id=child.job_id, run_id=run_id), JobState.RUNNING)
    lost = ErrorInfo(code=ArtifactError.code, blame=Blame.FLEET, message="not in the store", retry=False)
    held = Decision(state=JobState.HELD, failures=0, losses=0)
    sqlite_world.transact(jobs.fail, child.job_id, running.attempt, owner=OWNER, error=lost, decision=held)
    asked = npuq("retry", child.job_id)
    assert asked.code == 2
    assert "lost the weights (mobilenet.pth) of this run" in asked.err
    assert sqlite_world.state(child.job_id) is JobState.HELD
    stored = tmp_path / "store" / DIGEST[:2] / DIGEST[2:4] / DIGEST
    stored.parent.mkdir(parents=True)
    stored.touch()
    told = npuq("retry", child.job_id).err
    assert told == f"run {run_id}: 1 job tried again, after what the store has lost: convert (made again 1)\n"


def test_logs_of_a_run_that_was_never_planned_are_not_waited_for(npuq: Npuq, sqlite_world: World) -> None:
    """It has ended without a job, so none will write a line."""
    sqlite_world.transact(runs.refuse, sqlite_world.run(), "no dataset 'small' is registered")
    answer = npuq("logs", "@last", "--follow")
    assert answer.code == 0
    assert "has no log" in answer.err


@pytest.mark.parametrize(("state", "code"), [(JobState.SUCCEEDED, 0), (JobState.FAILED, 1), (JobState.WAITING, 4)])
def test_wait_says_by_its_exit_code_how_a_job_ended(
    state: JobState, code: int, npuq: Npuq, sqlite_world: World
) -> None:
    """0 succeeded, 1 did not, 4 not in time."""
    job = sqlite_world.job(state)
    assert npuq("wait", job.job_id, "--timeout", "0s").code == code


def test_watch_tells_a_finished_run_and_ends(npuq: Npuq, sqlite_world: World) -> None:
    """Without a terminal: a line per job, a summary, what to type next."""
    job = sqlite_world.job(JobState.FAILED)
    sqlite_world.transact(runs.settle)
    answer = npuq("watch", job.run_id)
    assert answer.code == 1
    assert ": failed on h1.npu0.0" in answer.err
    assert f"npuq why {job.run_id}" in answer.err


def test_logs_of_a_running_job_come_from_the_database(npuq: Npuq, sqlite_world: World) -> None:
    """Whole lines; `--tail` keeps the last ones; a run's lines say whose they are."""
    job = sqlite_world.job(JobState.RUNNING, label="infer 1/1")
    for text in ("first\nsec", "ond\nthird\n"):
        sqlite_world.transact(logs.append, job.job_id, job.attempt, owner=job.owner, text=text)
    assert npuq("logs", job.job_id).out == "first\nsecond\nthird\n"
    assert npuq("logs", job.job_id, "--tail", "1").out == "third\n"
    assert npuq("logs", job.run_id).out.splitlines()[0] == "infer 1/1 | first"


def test_a_log_that_is_empty_says_why(npuq: Npuq, sqlite_world: World) -> None:
    """On stderr: nothing has begun."""
    job = sqlite_world.job(JobState.WAITING, label="infer 1/1")
    answer = npuq("logs", job.job_id)
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == f"infer 1/1 is waiting and has written no log; see: npuq why {job.job_id}\n"
    assert f"npuq why {job.run_id}" in npuq("logs", job.run_id).err


def test_config_show_masks_passwords_and_names_origins(npuq: Npuq, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown can be pasted into an issue."""
    monkeypatch.setenv("NPUQ_DATABASE_URL", "postgresql://me:secret@db/npuq")
    answer = npuq("config", "show", "--origin", "-o", "json")
    assert "secret" not in answer.out
    by_name = {row["setting"]: row for row in answer.json}
    assert by_name["database_url"]["from"] == "$NPUQ_DATABASE_URL"
    assert by_name["broker_url"]["from"] == "default"


def test_db_upgrade_then_check(npuq: Npuq) -> None:
    """An empty home gets the schema, which then is exactly the models'."""
    assert npuq("db", "upgrade").err == f"schema empty -> {newest_revision()}\n"
    assert npuq("db", "upgrade").err == f"the schema is up to date ({newest_revision()})\n"
    assert npuq("db", "check").code == 0


@pytest.mark.usefixtures("sqlite_world")
def test_status_of_a_home_without_processes(npuq: Npuq) -> None:
    """Says what is not running, and that nothing would be taken."""
    answer = npuq("status", "-o", "json")
    assert answer.code == 3
    assert answer.json["up"] is False
    assert {process["role"]: process["pid"] for process in answer.json["processes"]} == {
        "redis": None,
        "scheduler": None,
        "worker": None,
    }
    assert answer.json["devices"] == {"online": 2}


def test_recipes_are_listed_and_shown(npuq: Npuq) -> None:
    """Names alone need no recipe to be imported."""
    assert "mobilenet_v1" in npuq("recipes", "list", "-o", "name").out.splitlines()
    assert npuq("recipes", "show", "mobilenet_v1", "-o", "json").json["inputs"][0]["name"] == "image"
    assert "mobilenet_v1" in npuq("recipes", "show", "mobilnet").err


def test_a_part_of_a_dataset_is_shown_as_such_wherever_a_result_is(npuq: Npuq, sqlite_world: World) -> None:
    """In the list, in the one result, in the guide's table, and for programs."""
    part = {"dataset": "small", "dataset_digest": "5" * 64, "samples": 24, "dataset_samples": 240}
    result = new_result(kind="accuracy", metrics={"top1": (70.0, "percent")}, images_digest="1" * 64, **part)
    job = sqlite_world.job(JobState.SUCCEEDED, JobKind.EVALUATE, result=result)
    listed_out = npuq("results", "list").out
    assert "small (24 of 240)" in listed_out
    assert "Top-1 70.00 %" in listed_out
    assert "small (24 of 240 images)" in npuq("results", "report", job.run_id).out
    (listed,) = npuq("results", "list", "-o", "json").json
    (row,) = npuq("results", "report", job.run_id, "-o", "json").json
    shown = npuq("results", "show", listed["result_id"], "-o", "json").json
    for document in (listed, row, shown):
        assert (document["samples"], document["dataset_samples"], document["partial"]) == (24, 240, True)
        assert document["images_digest"] == "1" * 64


def test_only_a_score_of_predictions_has_files(npuq: Npuq, sqlite_world: World, tmp_path: Path) -> None:
    """A throughput and a reference are refused, with the reason."""
    for kind, why in ((JobKind.BENCHMARK, "it is a performance"), (JobKind.EVALUATE, "it is a reference")):
        result = new_result(kind="accuracy" if kind is JobKind.EVALUATE else "performance")
        job = sqlite_world.job(JobState.SUCCEEDED, kind, result=result)
        result_id = npuq("results", "list", "--run", job.run_id, "-o", "name").out.strip()
        refused = npuq("results", "files", result_id, str(tmp_path / "files"))
        assert (refused.code, why in refused.err) == (2, True)


def test_jobs_of_passes_are_told_apart(npuq: Npuq, sqlite_world: World) -> None:
    """The pass of a recipe that names several."""
    params = {"batch_size": 1, "precision": "fp32", "start": 0, "stop": 8}
    for pass_name in ("flipped", "main"):
        sqlite_world.job(JobState.QUEUED, params=params | {"pass": pass_name})
    listed = npuq("jobs", "list").out
    assert "bs 1, fp32, flipped, 0-8" in listed
    assert "bs 1, fp32, 0-8" in listed
