"""The local cloud's own requests, under `/_local-cloud/`. The proxy in front never forwards that path.

`POST /_local-cloud/events`         an event as AWS would deliver it → {"rules": [names that matched]}
`POST /_local-cloud/push-events`    {"repository", "deliver": bool}: ECR events are best effort, so tests lose some
`POST /_local-cloud/image-scan`     {"repository", "digest", "status", "findings": [{"severity", "name"}]}: what the scan of an image says
`POST /_local-cloud/kill-function`  {"function": name} → {"killed": n}: its running environments die, as on a crash
`POST /_local-cloud/decisions`      {} → what IAM decided of each role's calls so far, and how often
`POST /_local-cloud/role-session`   {"role": ARN} → credentials of it, for a test that tries what it may not do
`GET  /_local-cloud/containers`     the containers that run as processes
"""

import asyncio
import json

from local_cloud import decisions, ecr, ecs, eventbridge, functions

PREFIX = "/_local-cloud/"

HANDLERS = {
    ("POST", "events"): eventbridge.deliver,
    ("POST", "push-events"): ecr.set_delivery,
    ("POST", "image-scan"): ecr.set_scan,
    ("POST", "kill-function"): functions.kill,
    ("POST", "decisions"): decisions.told,
    ("POST", "role-session"): decisions.session,
    ("GET", "containers"): ecs.containers,
}


def wrap(inner):
    """The ASGI application that answers our requests and leaves the rest to MiniStack."""

    async def application(scope, receive, send):
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            return await inner(scope, receive, send)
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        handler = HANDLERS.get((scope["method"], scope["path"][len(PREFIX):]))
        try:
            if handler is None:
                raise LookupError(f"no {scope['method']} {scope['path']}")
            status, answer = 200, await asyncio.to_thread(handler, json.loads(body or b"{}"))
        except Exception as error:  # the caller is a test: it gets the reason
            status, answer = 400, {"error": f"{type(error).__name__}: {error}"}
        payload = json.dumps(answer).encode()
        await send({"type": "http.response.start", "status": status, "headers": [
            (b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]})
        await send({"type": "http.response.body", "body": payload})

    return application
