"""What runs on an NPU host: the launcher, one Celery worker per chip, and the child processes that own the chips."""
