"""EC2: a client token makes CreateNatGateway repeatable."""

import threading

from ministack.core.responses import get_account_id, get_region
from ministack.services import ec2

from local_cloud.patch import replace

_lock = threading.Lock()
_answers = {}


def install():
    replace(ec2, "_create_nat_gateway", _idempotent)


def _idempotent(create):
    def create_nat_gateway(params):
        token = ec2._p(params, "ClientToken")
        if not token:
            return create(params)
        wanted = sorted((k, str(v)) for k, v in params.items() if k != "ClientToken")
        key = (get_account_id(), get_region(), token)
        with _lock:
            if key not in _answers:
                _answers[key] = (wanted, create(params))
            known, answer = _answers[key]
        if known != wanted:
            return ec2._error("IdempotentParameterMismatch",
                              f"The client token {token} was used with other parameters.", 400)
        return answer

    return create_nat_gateway
