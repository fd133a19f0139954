"""A fleet as docs/deploy.md describes it, from the checkpoint to the result: TLS, passwords, least rights, S3."""

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from db.tables import Artifact
from npuq.messages import SUBMIT_QUEUE
from tasks.demo_data import DATASET_FORMAT, RECIPE
from tests.acceptance.conftest import PICTURES
from tests.fleet.deployment import LIMIT_SECONDS, Deployment
from tests.fleet.laptop import Laptop
from tests.services import deployed_postgresql, deployed_redis

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Return a running deployment."""
    with Deployment(tmp_path_factory.mktemp("deployment")) as running:
        yield running


def test_a_run_goes_through_encrypted_services_with_the_least_rights(deployment: Deployment, laptop: Laptop) -> None:
    """Export, conversion, inference and score: every artifact went through S3, and no right was missing anywhere."""
    demo = laptop.demo  # its data; its fleet has no part in this
    deployment.npuq("datasets", "add", "demo", str(demo.dataset_root), "--format", DATASET_FORMAT)
    goal = ("evaluate", RECIPE, "--weights", str(demo.weights), "--dataset", "demo", "--batch-size", "4")
    run_id = deployment.npuq("submit", *goal, "-o", "name").stdout.strip()
    deployment.npuq("wait", run_id, "--timeout", f"{LIMIT_SECONDS:g}s")

    jobs = json.loads(deployment.npuq("jobs", "list", "--run", run_id, "-o", "json").stdout)
    assert {job["kind"] for job in jobs} == {"export", "convert", "infer", "evaluate"}
    assert {(job["state"], job["attempt"]) for job in jobs} == {("succeeded", 1)}
    (result,) = json.loads(deployment.npuq("results", "list", "--run", run_id, "-o", "json", role="reader").stdout)
    assert result["samples"] == PICTURES

    stored = {name.rpartition("/")[2] for name in deployment.s3.names()}
    assert len(known_artifacts(deployment)) >= len(jobs)
    assert known_artifacts(deployment) <= stored
    with deployment.redis.client() as client:
        assert client.llen(SUBMIT_QUEUE) == 0
    assert deployment.redis.refusals() == []


def test_secrets_stay_out_of_logs_and_of_what_the_doctor_says(deployment: Deployment) -> None:
    """The services' part is well, and no password is in it or in the logs of scheduler and worker."""
    findings = deployment.npuq("doctor", "-o", "json").stdout
    states = {finding["check"]: finding["verdict"] for finding in json.loads(findings)}
    assert {states[name] for name in ("broker", "database", "store", "clock")} == {"ok"}
    said = findings + "".join(path.read_text() for path in deployment.folder.glob("*.log"))
    secrets = [deployed_redis.PASSWORD, deployed_postgresql.PASSWORDS["fleet"], deployment.s3.secret]
    assert [secret for secret in secrets if secret in said] == []


def known_artifacts(deployment: Deployment) -> set[str]:
    """Return the digests of all artifacts that the database knows."""
    with deployment.database.read() as connection:
        return set(connection.execute(select(Artifact.digest)).scalars())
