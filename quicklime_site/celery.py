"""The Celery application. Owns nothing else: settings come from Django's, queues and schedule from `schedule`."""

import os

from celery import Celery

from . import schedule

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quicklime_site.settings")

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
