"""What Ansible does on a host that configures itself, as lines of JSON for vacuo-configure.

A task that fails is held back until it is certain that the role does
not mend it; then it is the run's last line.  Secrets are taken out here: nothing beyond this host
knows them.
"""

from __future__ import annotations

import json
import os
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: report
type: aggregate
short_description: what a host that configures itself tells of its run
description:
  - Writes one JSON object a line to the file that the environment variable VACUO_EVENTS names.
  - Hides every text in the JSON list of the file that VACUO_SECRETS names.
author: The Vacuo developers
"""

FINISHED_TASK = "vacuo: finished"
FAILED_TASK = "vacuo: failed"
LONGEST_MESSAGE = 2000
INCLUDES = ("include_role", "include_tasks")  # what they include tells of itself


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "vacuo.site.report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        with open(os.environ["VACUO_SECRETS"]) as file:
            self._secrets = json.load(file)
        self._file = open(os.environ["VACUO_EVENTS"], "a")  # noqa: SIM115 - open as long as we are
        self._began = {}
        self._failure = None

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._began[task._uuid] = time.monotonic()

    def v2_runner_on_ok(self, result):
        name = result._task.get_name()
        if name == FINISHED_TASK:
            self._write("", "finished", "finished", "")
        elif name == FAILED_TASK:
            role, task, message = self._failure or ("", "services", "a task failed")
            self._write(role, task, "failed", message)
        elif result._task.action.rpartition(".")[2] not in INCLUDES:
            self._tell(result, "changed" if result._result.get("changed") else "ok", "")

    def v2_runner_on_skipped(self, result):
        if self._role(result):
            self._tell(result, "skipped", "")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        message = self._message(result._result)
        if ignore_errors:
            self._tell(result, "ok", message)
        else:
            self._failure = (self._role(result), self._task(result), message)

    def _tell(self, result, status, message):
        seconds = time.monotonic() - self._began.get(result._task._uuid, time.monotonic())
        self._write(self._role(result), self._task(result), status, message, seconds)

    def _role(self, result):
        role = result._task._role
        return role.get_name() if role else ""

    def _task(self, result):
        return result._task.name or result._task.action

    def _message(self, result):
        if "censored" in result or result.get("_ansible_no_log"):
            return "the task's output is hidden because it may hold a secret"
        parts = [str(result.get("msg") or "")]
        for stream in ("stderr", "stdout"):
            text = str(result.get(stream) or "").strip()
            if text and text not in parts[0]:
                parts.append(text[-LONGEST_MESSAGE // 2 :])
                break
        return "\n".join(part for part in parts if part)

    def _write(self, role, task, status, message, seconds=0.0):
        event = {"role": role, "task": task, "status": status, "seconds": round(seconds, 3)}
        event["message"] = message
        for name in ("task", "message"):
            for secret in self._secrets:
                event[name] = event[name].replace(secret, "(hidden)")
            event[name] = event[name][:LONGEST_MESSAGE]
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()
