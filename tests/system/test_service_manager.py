"""Notices to systemd: sd_notify(3)."""

import os
import time

from stepup_tests.service_notices import Notices

from stepup.system.service_manager import ServiceManager


def test_a_notice_has_the_words_of_the_manual(notices):
    manager = ServiceManager(notices.path)
    manager.report_ready("serving")
    assert notices.receive() == ["READY=1", "STATUS=serving"]
    before = time.monotonic_ns() // 1_000
    manager.report_reloading()
    reloading, instant = notices.receive()
    assert reloading == "RELOADING=1"
    name, microseconds = instant.split("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) <= time.monotonic_ns() // 1_000
    manager.report_stopping()
    assert notices.receive()[0] == "STOPPING=1"


def test_children_do_not_inherit_the_address(notices, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", notices.path)
    ServiceManager.take_from_environment().report_ready("serving")
    assert notices.receive()[0] == "READY=1"
    assert "NOTIFY_SOCKET" not in os.environ


def test_without_a_manager_or_with_one_that_is_gone_nothing_happens(monkeypatch, tmp_path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    ServiceManager.take_from_environment().report_stopping()
    ServiceManager("").report_stopping()
    ServiceManager(str(tmp_path / "gone")).report_stopping()


def test_a_manager_that_does_not_read_delays_nothing(tmp_path):
    silent = Notices(tmp_path / "silent")
    manager, began = ServiceManager(silent.path), time.monotonic()
    for _ in range(5_000):
        manager.report_ready("serving")
    assert time.monotonic() - began < 30
    silent.close()
