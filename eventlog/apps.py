from pathlib import Path

from django.apps import AppConfig


class EventlogConfig(AppConfig):
    name = "eventlog"
    verbose_name = "Event log"

    def ready(self) -> None:
        from . import schemas

        schemas.register_directory(Path(__file__).parent / "schemas")
