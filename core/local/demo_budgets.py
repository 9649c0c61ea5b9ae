"""The demo's scenes about money: a budget that nears its end, one that is used up, and the books."""

from __future__ import annotations

import json

from core.local import demo_cast as cast
from core.local.demo_money import listened, models_due, served, worst
from core.local.demo_play import Demo, Scene, fixed_text
from core.local.line_api import LineCall

_PRIMARY, _FALLBACK = "gpt-6.1-terra", "gpt-6-luna"


async def crossing(demo: Demo, scene: Scene) -> str:
    """The model's name, as the provider received it, changes at the turn at which it must."""
    for words in cast.CROSSING:
        if not await demo.answered(scene, await demo.says(cast.KHON_KAEN, "นุ่น", words)):
            return "broke off"
    if not demo.judged_by_model:
        return "answered"
    calls = [call for call in demo.stack.openai.calls if call.clinic == cast.KHON_KAEN]
    used = [call.model for call in calls]
    due = models_due(calls, _PRIMARY, _FALLBACK, cast.CROSSING_BUDGET, cast.DOWNGRADE_AT, demo.thb_per_usd)
    demo.promise(scene, used == due, f"OpenAI received {used}, due were {due}")
    demo.promise(scene, {*used} == {_PRIMARY, _FALLBACK}, f"the threshold was not crossed: {used}")
    first = used.index(_FALLBACK) + 1 if _FALLBACK in used else 0
    return f"turns 1 to {first - 1} {_PRIMARY}, from turn {first} {_FALLBACK}"


async def stopped(demo: Demo, scene: Scene) -> str:
    """The first question has used the budget up: one notice by reply token, no call, no push."""
    notice = await demo.says(cast.HAT_YAI, "แพร", cast.STOPPED[0])
    await demo.answered(scene, notice)
    said = demo.said_to(notice)
    demo.promise(scene, said == [fixed_text(cast.HAT_YAI, "budget")], f"the answer was {said}")
    again = await demo.says(cast.HAT_YAI, "แพร", cast.STOPPED[1])
    demo.silent.add(again.event_id)
    await demo.settled(again)
    demo.promise(
        scene, not demo.simulator.answers(again.event_id), "the notice was sent twice within an hour"
    )
    channel = demo.clinics[cast.HAT_YAI].channel.channel_id
    pushed = [d for d in demo.stack.line.deliveries if d.channel_id == channel and d.how is LineCall.PUSH]
    demo.promise(scene, not pushed, "a clinic without budget has paid for a push")
    if demo.judged_by_model:
        demo.promise(scene, not demo.calls(notice, again), "the model was called")
    return "no room for another call: one notice, no push"


async def books(demo: Demo, scene: Scene) -> str:
    """`fairlane spend` against what OpenAI has served, to the micro-baht."""
    demo.spend = json.loads(await demo.operator("spend", "--json"))
    demo.spend_table = await demo.operator("spend", environment=demo.table_shape)
    booked = sum(row["spent_micro_baht"] for row in demo.spend)
    held = sum(row["held_micro_baht"] for row in demo.spend)
    demo.promise(scene, held == 0, f"{held} micro-baht are still held")
    if not demo.judged_by_model:
        return "see the table"
    calls = demo.stack.openai.calls
    spoken = demo.stack.openai.audio.calls
    demo.served_micro_baht = sum(served(call, demo.thb_per_usd) for call in calls) + sum(
        listened(call, demo.thb_per_usd) for call in spoken
    )
    demo.unknown_micro_baht = sum(
        worst(call, call.model, demo.thb_per_usd) for call in calls if call.outcome == "abandoned"
    )
    due = demo.served_micro_baht + demo.unknown_micro_baht
    demo.promise(scene, booked == due, f"booked {booked} micro-baht, due were {due}")
    for row in demo.spend:
        over = row["spent_micro_baht"] - row["budget_micro_baht"]
        demo.promise(scene, over <= 0, f"{row['org_id']} is {over} micro-baht over its budget")
    return "booked = served by OpenAI, to the micro-baht"
