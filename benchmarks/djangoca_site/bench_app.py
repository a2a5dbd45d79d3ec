"""The Celery and WSGI applications of the django-ca peer."""

from celery import Celery
from django.core.wsgi import get_wsgi_application

app = Celery("bench")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.set_default()
wsgi = get_wsgi_application()
