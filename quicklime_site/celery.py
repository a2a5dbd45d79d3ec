"""The Celery application. Owns nothing else: settings come from Django's, queues and schedule from `schedule`."""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_ready

from . import correlation, schedule

__all__ = ["app", "correlation"]  # imported, it listens to Celery's signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quicklime_site.settings")


@worker_ready.connect
def _measure(**_: Any) -> None:
    """Django is set up, and nothing forks any more."""
    from . import measuring

    measuring.start()


app = Celery("quicklime")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    task_queues=schedule.TASK_QUEUES,
    task_routes=schedule.ROUTES,
    task_default_queue="upkeep",
    task_create_missing_queues=False,
    beat_schedule=schedule.BEAT,
)
app.autodiscover_tasks()
app.autodiscover_tasks(related_name="ocsp_signers")  # above the pipeline, which ca.tasks lies below
