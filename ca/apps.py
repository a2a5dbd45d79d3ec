from django.apps import AppConfig


class CaConfig(AppConfig):
    name = "ca"
    verbose_name = "Certificate authority"

    def ready(self) -> None:
        from . import projections

        projections.register()
