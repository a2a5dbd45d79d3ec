"""Django settings of the django-ca peer. Read by its own environment, never by Quicklime."""

import os
from datetime import timedelta

_redis = os.environ["BENCH_REDIS"]
SECRET_KEY, DEBUG, USE_TZ, TIME_ZONE, ALLOWED_HOSTS = "only-for-benchmarks-" + "x" * 40, False, True, "UTC", ["*"]
ROOT_URLCONF = "bench_urls"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.admin",
    "django_object_actions",
    "django_ca",
]
MIDDLEWARE: list[str] = []
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["BENCH_DATABASE"],
        "USER": "quicklime",
        "HOST": "127.0.0.1",
        "PORT": os.environ["BENCH_DATABASE_PORT"],
        "CONN_MAX_AGE": None,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"{_redis}/3"}}
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "django-ca": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": os.environ["BENCH_FILES"]}},
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SILENCED_SYSTEM_CHECKS = ["admin.E408", "admin.E409", "admin.E410"]
LOGGING_CONFIG = None
CA_ENABLE_REST_API, CA_DEFAULT_HOSTNAME = True, "ca.example.org"
CA_USE_CELERY = os.environ.get("BENCH_CELERY") == "1"  # off while the CA is made: no worker runs yet
CA_OCSP_RESPONSE_CACHE_EXPIRES = timedelta(days=4) if os.environ.get("BENCH_PRESIGNED") == "1" else None
CELERY_BROKER_URL, CELERY_RESULT_BACKEND = f"{_redis}/0", f"{_redis}/1"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
