"""The WSGI entry point of the API, the admin and the dashboard."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quicklime_site.settings")

application = get_wsgi_application()
