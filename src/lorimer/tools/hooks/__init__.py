"""Hooks: functions and programs of the host, called at fixed points of a run."""

from lorimer.core.hooks import Answer, HookEvent
from lorimer.tools.hooks.command import CommandHook
from lorimer.tools.hooks.hook import FunctionHook, Hook

__all__ = ["Answer", "CommandHook", "FunctionHook", "Hook", "HookEvent"]
