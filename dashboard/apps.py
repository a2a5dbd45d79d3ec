from pathlib import Path

from django.apps import AppConfig


class DashboardConfig(AppConfig):
    name = "dashboard"

    def ready(self) -> None:
        from eventlog import schemas

        from . import activity, lineage, watching

        schemas.register_directory(Path(__file__).parent / "schemas")
        watching.register()
        lineage.register()
        activity.register()
