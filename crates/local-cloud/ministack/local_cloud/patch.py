"""Replacing a function of MiniStack, loudly when it is not there."""

import sys


def replace(module, name, make):
    """Replaces `module.name` by `make(original)`, in the module and in its dispatch table."""
    original = getattr(module, name, None)
    if original is None:
        sys.exit(f"{module.__name__} has no {name}: this MiniStack is not the pinned version")
    changed = make(original)
    setattr(module, name, changed)
    for table in ("_ACTION_HANDLERS", "_ACTION_MAP", "_ACTIONS", "ACTION_MAP", "_IAM_HANDLERS"):
        actions = getattr(module, table, None)
        if isinstance(actions, dict):
            for action, handler in list(actions.items()):
                if handler is original:
                    actions[action] = changed
    return original
