from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("dashboard", "0009_lines_in_pages"),
    ]

    operations = [
        # What Django makes on PostgreSQL for LIKE beside the key. Nothing looks for parts of a serial here, and each row is
        # written to it at its issuance and again when it is superseded. Its name is the same everywhere.
        migrations.RunSQL(
            "DROP INDEX IF EXISTS dashboard_generation_serial_f21c6205_like",
            migrations.RunSQL.noop,
        ),
    ]
