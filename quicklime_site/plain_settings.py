"""Settings of the plain-HTTP process: the same, but its own few URLs, and none of what sessions and pages need."""

from .settings import *  # noqa: F403

ROOT_URLCONF = "quicklime_site.plain_http"
MIDDLEWARE = []
ALLOWED_HOSTS = ["*"]  # relying parties come by any name, and no answer depends on it
