"""deploy/: alert rules and the dashboard name metrics that exist, and the operations guide says of each what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from ca.measures import registry
from eventlog import backups
from ocsp import crls
from quicklime_site import health, measuring, metrics
from quicklime_site.schedule import BEAT, ROUTES

ROOT = Path(__file__).resolve().parent.parent.parent
RULES = [rule for group in yaml.safe_load((ROOT / "deploy/prometheus-alerts.yml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())
GUIDE = (ROOT / "docs/operations.md").read_text()
NAME = re.compile(r"\bquicklime_[a-z0-9_]+")


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in RULES)
    yield from (target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ()))


@pytest.fixture
def names(hierarchy: None, settings: Any, tmp_path: Path, now: datetime) -> set[str]:
    """Every name that can stand in the answer, those of a histogram with their endings."""
    settings.STATUS_DIR = tmp_path
    crls.publish_due(now)
    backups.note("pg_dump", 1, now)
    every = IntervalSchedule.objects.create(every=2, period="seconds")
    PeriodicTask.objects.create(name="resume", task="ca.resume", interval=every, last_run_at=now)
    found = [*metrics.gauges(health.look(now)), *metrics.look(now)]
    counted = {metric.name + suffix for metric in registry.collect() for suffix in measuring._SUFFIXES[metric.type]}
    return {metric.name for metric in found} | counted


@pytest.mark.django_db
def test_they_name_metrics_that_exist_and_the_guide_names_all(names: set[str]) -> None:
    asked = {name for expression in expressions() for name in NAME.findall(expression)}
    assert asked - names == set()
    told = set(re.findall(r"`(quicklime_[a-z0-9_]+)", GUIDE))
    families = {re.sub(r"_(bucket|count|sum)$", "", name) if "_seconds" in name or "batch" in name else name for name in names}
    assert families - told == set(), "the guide leaves some out"
    assert told - families == set(), "the guide names some that do not exist"


def test_the_guide_says_what_to_do_for_each_alert_and_for_no_other() -> None:
    assert sorted(re.findall(r"^\| `(Quicklime[A-Za-z]+)` \|", GUIDE, re.MULTILINE)) == sorted(rule["alert"] for rule in RULES)
    assert {rule["labels"]["severity"] for rule in RULES} == {"critical", "warning"}


def test_every_periodic_task_is_watched_and_no_other() -> None:
    """The alert waits for ten minutes, so that a task that is seldom done wants another one."""
    others = "|".join(sorted(ROUTES.keys() - {entry["task"] for entry in BEAT.values()}))
    left_out = re.findall(r'last_success_timestamp_seconds\{task!~"([^"]+)"\}', " ".join(expressions()))
    assert set(left_out) == {others}
    assert max(entry["schedule"] for entry in BEAT.values()) <= 300


def test_every_panel_asks_something_of_the_chosen_source() -> None:
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert all(panel["targets"] and panel["datasource"]["uid"] == "${datasource}" for panel in panels)
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
