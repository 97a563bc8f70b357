"""What is logged reaches the terminal or a worker's log file, at the level that is asked for."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from pipeline.config.named import named_config
from pipeline.console import TrainingProgress, configure_logging, say

ROOT = Path(__file__).resolve().parents[1]
logger = logging.getLogger("pipeline.training.tasks")


def configure(monkeypatch, level: str | None) -> None:
    if level is None:
        monkeypatch.delenv("AUTOSNN_LOG", raising=False)
    else:
        monkeypatch.setenv("AUTOSNN_LOG", level)
    configure_logging()


def log_everything() -> None:
    for level in ("debug", "info", "warning", "error"):
        getattr(logger, level)("from %s", "us")
        getattr(logging.getLogger("somebody.else"), level)("from them")


@pytest.mark.parametrize(
    ("level", "ours", "others"),
    [
        ("debug", ["debug", "info", "warning", "error"], ["warning", "error"]),
        ("info", ["info", "warning", "error"], ["warning", "error"]),
        (None, ["warning", "error"], ["warning", "error"]),
        ("error", ["error"], ["error"]),
    ],
)
def test_level_is_that_of_the_variable(level, ours, others, monkeypatch, capsys) -> None:
    configure(monkeypatch, level)
    log_everything()
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert [line for line in lines if "from us" in line] == [f"{name}: from us" for name in ours]
    assert [line for line in lines if "from them" in line] == [f"{name}: from them" for name in others]


def test_configuring_again_shows_nothing_twice(monkeypatch, capsys) -> None:
    configure(monkeypatch, None)
    configure(monkeypatch, None)
    logger.warning("once")
    assert capsys.readouterr().err == "warning: once\n"


def test_unknown_level_is_refused(monkeypatch) -> None:
    with pytest.raises(
        ValueError, match="AUTOSNN_LOG must be one of debug, info, warning, error, got 'loud'"
    ):
        configure(monkeypatch, "loud")


def test_warning_of_a_setting_is_one_line_without_its_source(monkeypatch, capsys) -> None:
    configure(monkeypatch, None)
    warnings.warn("this setting is ignored", stacklevel=1)
    assert capsys.readouterr().err == "warning: this setting is ignored\n"


def test_error_with_its_traceback_is_logged_whole(monkeypatch, capsys) -> None:
    configure(monkeypatch, None)
    try:
        raise OSError("no data")
    except OSError:
        logger.exception("the evaluator could not start")
    text = capsys.readouterr().err
    assert text.startswith("error: the evaluator could not start\nTraceback") and "OSError: no data" in text


def test_lines_have_plain_spaces_and_survive_a_bar(capsys) -> None:
    bar = TrainingProgress("training", 10)
    bar.advance(4)
    say("61.2\u00a0%")
    bar.close()
    assert capsys.readouterr().out == "61.2 %\n"


def test_configuration_of_a_worker_loads_nothing_heavy_and_names_time_process_and_module() -> None:
    code = (
        "import sys, logging, pipeline.console as console; console.configure_worker_logging();"
        "logging.getLogger('pipeline.run').info('hello');"
        "print(sorted({'torch', 'ray', 'numpy', 'pyarrow', 'tyro'} & set(sys.modules)))"
    )
    environment = {"AUTOSNN_LOG": "info", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d [\d:,]+ INFO \d+ pipeline\.run: hello\n", done.stderr)


@pytest.mark.slow
def test_records_of_a_ray_task_lie_in_its_workers_log_file(monkeypatch) -> None:
    import ray

    from pipeline.ray.session import ray_session

    monkeypatch.setenv("AUTOSNN_LOG", "info")

    def work() -> str:
        logging.getLogger("pipeline.search.weights").info("hello from a task")
        return ray.get_runtime_context().get_worker_id()

    with ray_session(named_config("demo")):
        worker = ray.get(ray.remote(work).remote())
        folder = Path(ray._private.worker._global_node.get_logs_dir_path())
        text, deadline = "", time.monotonic() + 20
        while "hello" not in text and time.monotonic() < deadline:
            text = "".join(file.read_text() for file in folder.glob(f"worker-{worker}-*.err"))
            time.sleep(0.1)
    assert re.search(r"INFO \d+ pipeline\.search\.weights: hello from a task", text)
