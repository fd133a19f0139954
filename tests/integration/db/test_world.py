import pytest

from npuq.states import JobState
from tests.services.redis_server import RedisServer
from tests.services.world import World


@pytest.mark.parametrize("state", list(JobState))
def test_a_job_can_be_brought_to_every_state(world: World, state: JobState) -> None:
    """The factory's moves are the program's own, and they lead everywhere."""
    assert world.state(world.job(state)) is state


def test_undocumented_redis_keys_are_found(redis_server: RedisServer) -> None:
    """A key that `npuq/messages.py` does not list is a leak."""
    redis_server.client.set("npuq:forgotten", "1")
    redis_server.client.lpush("npuq.device.h1.npu0.0", "1")
    assert redis_server.leaked_keys() == [b"npuq:forgotten"]
    redis_server.client.delete("npuq:forgotten")
