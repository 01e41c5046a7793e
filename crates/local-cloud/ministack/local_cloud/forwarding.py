"""Elastic Load Balancing: an action forwards to several target groups, to each its share by weight; one that weighs 0 gets nothing.
Rules and listeners take such an action from calls and from templates, and show it.

MiniStack forwards to one group, the first that a template names. No client sticks to a group here.
<https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_ForwardActionConfig.html>
"""

import random

from ministack.services import alb
from ministack.services.cloudformation import provisioners

from local_cloud.patch import replace


def install():
    replace(alb, "_parse_actions", _take_weights)
    replace(alb, "_action_xml", _show_weights)
    replace(alb, "_execute_actions", _choose_group)
    replace(provisioners, "_elbv2_listener_actions", _take_weights_of_template)


def groups(action):
    """The weights of the target groups that an action forwards to, by their ARNs; 1 where none is named."""
    config = action.get("ForwardConfig") or {}
    weights = {group["TargetGroupArn"]: group.get("Weight", 1) for group in config.get("TargetGroups") or []}
    return weights or ({action["TargetGroupArn"]: 1} if action.get("TargetGroupArn") else {})


def forward(actions, weights):
    """The actions with what is forwarded going to these groups, by their weights."""
    return [_weighted(action, weights) if action["Type"] == "forward" else action for action in actions]


def _weighted(action, weights):
    """As AWS shows it: the only group also stands beside the groups, one of several does not."""
    named = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in weights.items()]
    kept = {name: value for name, value in action.items() if name != "TargetGroupArn"}
    only = {"TargetGroupArn": named[0]["TargetGroupArn"]} if len(named) == 1 else {}
    return {**kept, **only, "ForwardConfig": {"TargetGroups": named}}


def _take_weights(parse):
    def parse_actions(params, prefix="DefaultActions"):
        actions = parse(params, prefix)
        for n, action in enumerate(actions, 1):
            weights, m = {}, 1
            group = f"{prefix}.member.{n}.ForwardConfig.TargetGroups.member"
            while arn := alb._p(params, f"{group}.{m}.TargetGroupArn"):
                weights[arn] = int(alb._p(params, f"{group}.{m}.Weight", "1"))
                m += 1
            if weights:
                actions[n - 1] = _weighted(action, weights)
        return actions

    return parse_actions


def _take_weights_of_template(read):
    def listener_actions(props, lb_arn, prop="DefaultActions"):
        actions = read(props, lb_arn, prop)
        given = [action for action in props.get(prop) or [] if isinstance(action, dict)]
        for n, action in enumerate(given):
            named = (action.get("ForwardConfig") or {}).get("TargetGroups") or []
            if named:
                weights = {group["TargetGroupArn"]: int(group.get("Weight", 1)) for group in named}
                actions[n] = _weighted(actions[n], weights)
        return actions

    return listener_actions


def _show_weights(write):
    def action_xml(action):
        written = write(action)
        weights = groups(action) if action["Type"] == "forward" else {}
        if not weights:
            return written
        members = "".join(f"<member><TargetGroupArn>{arn}</TargetGroupArn><Weight>{weight}</Weight></member>"
                          for arn, weight in weights.items())
        config = (f"<ForwardConfig><TargetGroups>{members}</TargetGroups>"
                  "<TargetGroupStickinessConfig><Enabled>false</Enabled></TargetGroupStickinessConfig></ForwardConfig>")
        return written.removesuffix("</member>") + config + "</member>"

    return action_xml


def _choose_group(execute):
    async def execute_actions(actions, *args, **options):
        return await execute([_chosen(action) for action in actions], *args, **options)

    return execute_actions


def _chosen(action):
    weights = groups(action)
    if not any(weights.values()):
        return action
    return {**action, "TargetGroupArn": random.choices(list(weights), list(weights.values()))[0]}
