from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("dashboard", "0005_roles"),
    ]

    operations = [
        migrations.CreateModel(
            name="Notice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("request", models.UUIDField()),
                ("recipient", models.CharField(max_length=254)),
                ("recipient_hash", models.CharField(max_length=64)),
                ("due_at", models.DateTimeField(null=True)),
                ("tries", models.SmallIntegerField(default=0)),
            ],
            options={"constraints": [models.UniqueConstraint(fields=("request", "recipient_hash"), name="dashboard_notice_once")]},
        ),
    ]
