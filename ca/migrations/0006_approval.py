from __future__ import annotations

import json

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def say_who_made_tokens(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    """As the log says, so that the rows are what replay makes of it."""
    token, event = apps.get_model("ca", "Token"), apps.get_model("eventlog", "Event")
    for body in event.objects.filter(type="token.created").values_list("body", flat=True):
        data = json.loads(bytes(body))["data"]
        token.objects.filter(id=data["token"]).update(created_by=data["by"])


class Migration(migrations.Migration):
    dependencies = [
        ("eventlog", "0001_initial"),
        ("ca", "0005_replacement"),
    ]

    operations = [
        migrations.CreateModel(
            name="Approval",
            fields=[
                ("request", models.UUIDField(primary_key=True, serialize=False)),
                ("asked", models.BinaryField(max_length=32)),
                ("cause", models.CharField(max_length=8)),
                ("granted", models.BooleanField(null=True)),
                ("by", models.CharField(max_length=200)),
                ("why", models.TextField()),
                ("decided_at", models.DateTimeField(null=True)),
                ("position", models.BigIntegerField()),
            ],
        ),
        migrations.AddField(
            model_name="token",
            name="approval",
            field=models.CharField(
                choices=[("as-profile", "as-profile"), ("always", "always"), ("never", "never")], default="as-profile", max_length=10
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="token", name="created_by", field=models.CharField(default="", max_length=200), preserve_default=False
        ),
        migrations.AddField(model_name="request", name="decide_by", field=models.DateTimeField(null=True)),
        migrations.AlterField(
            model_name="request",
            name="state",
            field=models.CharField(
                choices=[
                    ("received", "Received"),
                    ("awaiting_approval", "Awaiting"),
                    ("validated", "Validated"),
                    ("signed", "Signed"),
                    ("challenged", "Challenged"),
                    ("issued", "Issued"),
                    ("rejected", "Rejected"),
                ],
                default="received",
                max_length=20,
            ),
        ),
        migrations.AddIndex(
            model_name="request",
            index=models.Index(condition=models.Q(("state", "awaiting_approval")), fields=["id"], name="ca_request_awaiting"),
        ),
        migrations.RunPython(say_who_made_tokens, migrations.RunPython.noop),
    ]
