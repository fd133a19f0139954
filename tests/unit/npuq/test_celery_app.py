"""The settings that keep Celery over Redis from losing, doubling or stalling work; each answers a failure seen."""

from npuq.celery_app import make_app
from npuq.config import Settings

WANTED = {
    "accept_content": ["json"],
    "broker_channel_error_retry": True,
    "broker_connection_max_retries": None,
    "broker_connection_retry_on_startup": True,
    "result_backend": None,
    "task_acks_late": False,
    "task_create_missing_queues": False,
    "task_ignore_result": True,
    "task_publish_retry": False,
    "task_reject_on_worker_lost": False,
    "task_serializer": "json",
    "worker_disable_prefetch": False,  # with early acknowledgement it polls once a second
    "worker_enable_remote_control": False,
    "worker_eta_task_limit": 10,
    "worker_prefetch_multiplier": 1,
    "worker_send_task_events": False,
}
TRANSPORT = {
    "health_check_interval": 5,
    "socket_connect_timeout": 3,
    "socket_keepalive": True,
    "socket_timeout": 5,
    "visibility_timeout": 3600,
}


def test_celery_is_asked_for_nothing_that_it_gets_wrong(settings: Settings) -> None:
    """A default that a release of Celery changes is noticed, too: what counts is what the application says."""
    conf = make_app(settings).conf
    assert {name: conf[name] for name in WANTED} == WANTED
    assert conf.broker_transport_options == TRANSPORT
    assert conf.worker_soft_shutdown_timeout == settings.timing.drain_seconds
