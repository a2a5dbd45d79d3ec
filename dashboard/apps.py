from pathlib import Path

from django.apps import AppConfig
from django.contrib.admin import apps as admin


class DashboardConfig(AppConfig):
    name, default = "dashboard", True

    def ready(self) -> None:
        from eventlog import schemas

        from . import activity, lineage, watching

        schemas.register_directory(Path(__file__).parent / "schemas")
        watching.register()
        lineage.register()
        activity.register()


class AdminConfig(admin.AdminConfig):
    """Django's admin with our site."""

    default, default_site = False, "dashboard.site.Site"
