from __future__ import annotations

import django.db.models.deletion
from django.apps.registry import Apps
from django.conf import settings
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def keep_what_accounts_had(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    """Superusers did everything that there was to do, staff could look at everything."""
    user, group = apps.get_model("auth", "User"), apps.get_model("auth", "Group")
    for wanted, roles in (
        ({"is_superuser": True}, ("operator", "administrator")),
        ({"is_superuser": False, "is_staff": True}, ("auditor",)),
    ):
        for row in user.objects.filter(**wanted):
            row.groups.add(*(group.objects.get_or_create(name=role)[0] for role in roles))


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("dashboard", "0004_what_pages_count"),
    ]

    operations = [
        migrations.CreateModel(
            name="Ownership",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("owner", models.CharField(max_length=200)),
                ("user", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to=settings.AUTH_USER_MODEL)),
            ],
            options={"constraints": [models.UniqueConstraint(fields=("user", "owner"), name="dashboard_ownership_once")]},
        ),
        migrations.RunPython(keep_what_accounts_had, migrations.RunPython.noop),
    ]
