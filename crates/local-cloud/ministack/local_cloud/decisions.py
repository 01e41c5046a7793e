"""What IAM decided of each role's calls, as CloudTrail would tell: the statement that allowed one, or what was denied.

A call that is checked on several resources, or as several actions, is several decisions. What a test asks in a session of its
own (`session`) is none: it is asked to be denied.
"""

import contextvars
import secrets
import threading
from collections import Counter

from ministack.core import iam_evaluator
from ministack.services import sts

from local_cloud.patch import replace

# The session of a test; Lambda's are named for their functions.
TRIAL = "trial"

_decided = contextvars.ContextVar("local_cloud_decided", default=None)
_made = Counter()
_lock = threading.Lock()


def install():
    replace(iam_evaluator, "evaluate", _remember)
    replace(iam_evaluator, "enforce", _note_each)


def _remember(evaluate):
    def evaluate_and_remember(context, policies, *limits):
        if _decided.get() is None:  # what comes after it asks the resource's own policy
            _decided.set((context, policies))
        return evaluate(context, policies, *limits)

    return evaluate_and_remember


def _note_each(enforce):
    def enforce_and_note(*asked, **more):
        return noted(lambda: enforce(*asked, **more))

    return enforce_and_note


def noted(decide):
    """What `decide` answers: nothing, or why it is denied. Counted, if it is about a role."""
    _decided.set(None)
    denied = decide()
    context, policies = _decided.get() or (None, ())
    role = _role(context.principal_arn) if context else ""
    if role and not context.principal_arn.endswith(f"/{TRIAL}"):
        statement, position = ("", None) if denied else _allowing(context, policies)
        resource = context.resource_arn if position is None else ""
        with _lock:
            _made[role, context.action, statement, position, resource, not denied] += 1
    return denied


def _allowing(context, policies):
    """The statement that allows it, and by which of its resources."""
    statements = [statement for policy in policies for statement in policy]
    found = iam_evaluator._first_match(context, statements, "Allow")
    if found is None:  # the resource's own policy does
        return "", None
    matching = (n for n, one in enumerate(found.resources) if iam_evaluator.fnmatch_iam_cs(context.resource_arn, one))
    return found.sid, next(matching, None)


def _role(principal):
    kind, _, rest = principal.rpartition(":")[2].partition("/")
    return {"role": rest.rpartition("/")[2], "assumed-role": rest.partition("/")[0]}.get(kind, "")


def told(_body):
    with _lock:
        made = sorted(_made.items(), key=str)
    names = ("role", "action", "statement", "position", "resource", "allowed")
    return [{**dict(zip(names, decision)), "times": times} for decision, times in made]


def session(body):
    """Credentials of a role, whoever it trusts: as a thief of a function has them."""
    account, name = body["role"].split(":")[4], body["role"].rpartition("/")[2]
    key, secret, token = f"ASIA{secrets.token_hex(8).upper()}", secrets.token_hex(32), secrets.token_hex(32)
    sts.register_session(key, {
        "Arn": f"arn:aws:sts::{account}:assumed-role/{name}/{TRIAL}", "UserId": f"{name}:{TRIAL}",
        "SecretAccessKey": secret, "SessionToken": token,
    })
    return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token}
