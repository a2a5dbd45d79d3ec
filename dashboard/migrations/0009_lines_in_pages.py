from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("dashboard", "0008_identities"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="generation",
            name="dashboard_generation_now",
        ),
        migrations.AddIndex(
            model_name="generation",
            index=models.Index(
                condition=models.Q(("superseded_at", None)), fields=["service", "node", "serial"], name="dashboard_generation_now"
            ),
        ),
    ]
