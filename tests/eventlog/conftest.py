"""Each test of the log has its own checkpoint directory, its own registry of schemas and of projections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventlog import checkpoints, projections, saved, schemas, staging


@pytest.fixture(autouse=True)
def checkpoint_dir(settings: Any, tmp_path: Path) -> Path:
    settings.CHECKPOINT_DIR = tmp_path / "checkpoints"
    return tmp_path / "checkpoints"


@pytest.fixture(autouse=True)
def _beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebuild makes its rows beside the tables, however short the log."""
    monkeypatch.setattr(staging, "WORTH", 0)


@pytest.fixture
def publish_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows a commit follows at once, so that a test can be rolled back; emptying every table takes far longer."""

    def call(work: Callable[[], None], robust: bool) -> None:
        work()

    monkeypatch.setattr(checkpoints.transaction, "on_commit", call)


@pytest.fixture(autouse=True)
def _registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """eventlog's own schemas and the tests' two types; no projection but those a test registers."""
    monkeypatch.setattr(schemas, "_types", {})
    monkeypatch.setattr(schemas, "_newest", {})
    monkeypatch.setattr(projections, "_registered", {})
    schemas.register_directory(Path(schemas.__file__).parent / "schemas")
    schemas.register_directory(Path(__file__).parent / "schemas")
    saved._remember.cache_clear()
