"""The demo's scenes. Each says in a few words what happened, and marks what did not hold."""

from __future__ import annotations

import asyncio
import time

from core.local import demo_cast as cast
from core.local.demo_answers import tagged
from core.local.demo_budgets import books, crossing, stopped
from core.local.demo_desk import booking, hand_off
from core.local.demo_play import Demo, Play, Scene, fixed_text
from core.local.demo_words import bubbles, picture, quote, sticker, sticker_with_words, voice
from core.local.line_webhook import sign
from core.local.simulator import Sent
from core.local.specs import specs

_STRANGER = "not-this-channels-secret"


async def everything(demo: Demo) -> None:
    """Most scenes at once; then, with nobody else on the way, the one in which an instance is killed."""
    asked = asyncio.Event()

    async def ask_all(demo: Demo, scene: Scene) -> str:
        try:
            return await ordinary(demo, scene)
        finally:
            asked.set()

    async def over(title: str, scene: Play) -> None:
        """A clinic whose budget is at stake goes on once its first question is answered."""
        await asked.wait()
        await demo.play(title, scene)

    await asyncio.gather(
        demo.play("Customers of five clinics ask at once", ask_all),
        demo.play("Six quick bubbles from one customer", bubbles),
        demo.play("LINE and the queue deliver things twice", delivered_twice),
        demo.play("A webhook with a bad signature", bad_signature),
        demo.play("A sticker", sticker),
        demo.play("A sticker with words", sticker_with_words),
        demo.play("A picture, and then a question about it", picture),
        demo.play("A voice message", voice),
        demo.play("A quote says which answer is meant", quote),
        demo.play("A conversation across instances", conversation),
        demo.play("The model names a wrong price", wrong_price),
        demo.play("Staff take a chat over, and give it back", hand_off),
        over("A clinic's budget nears its end", crossing),
        over("A clinic's budget is used up", stopped),
    )
    spoken = time.monotonic()
    await demo.play("An instance is killed during an LLM call", killed)
    await demo.play("A booking, confirmed by a tap", booking)
    session_s = float(demo.stack.settings_env["SESSION_TTL_S"])
    await asyncio.sleep(max(0.0, spoken + session_s + 0.5 - time.monotonic()))
    await demo.play("Later, in a new chat: the customer is known", remembered)
    await demo.play("All in all", in_all)
    await demo.play("The books", books)


async def ordinary(demo: Demo, scene: Scene) -> str:
    sent = await asyncio.gather(*(demo.says(*question) for question in cast.QUESTIONS))
    await demo.answered(scene, *sent)
    return f"{len(sent)} questions, each answered"


async def delivered_twice(demo: Demo, scene: Scene) -> str:
    sent = demo.writes(cast.CHIANG_MAI, "หมวย", "ถอนฟันเจ็บไหมคะ")
    await demo.simulator.send(sent)
    task = demo.task_of(sent)
    await demo.simulator.redeliver(sent)
    await demo.answered(scene, sent)
    await demo.settled(sent)
    await demo.simulator.redeliver(sent)
    if task is not None:
        demo.stack.tasks.redeliver(task.name)
        await asyncio.sleep(1.0)
    answers = demo.simulator.answers(sent.event_id)
    demo.promise(scene, len(answers) == 1, f"answered {len(answers)} times")
    if demo.judged_by_model:
        demo.promise(scene, len(demo.calls(sent)) == 1, "the model was asked again")
    return "3 webhooks and a task more: one answer"


async def bad_signature(demo: Demo, scene: Scene) -> str:
    sent = demo.writes(cast.PHUKET, "ใครไม่รู้", "ขอรายชื่อลูกค้าทั้งหมด")
    demo.silent.add(sent.event_id)
    await demo.simulator.send(sent, signature=sign(_STRANGER, b""))
    status = sent.acks[0].status
    demo.promise(scene, status == 401, f"the webhook answered {status}")
    demo.promise(scene, demo.task_of(sent) is None, "a task was made of it")
    return "401, no task, no answer"


async def conversation(demo: Demo, scene: Scene) -> str:
    """Every turn goes to another instance and knows all that was said before."""
    spoken: list[Sent] = []
    for i, words in enumerate(cast.CONVERSATION):
        sent = demo.writes(cast.BANGKOK, "พลอย", words)
        demo.steer(sent, i)
        await demo.simulator.send(sent)
        if not await demo.answered(scene, sent):
            return "broke off"
        await demo.settled(sent)
        spoken.append(sent)
        if words == cast.ALLERGY and not await consents(demo, scene, sent):
            return "broke off"
    if demo.judged_by_model:
        for i, sent in enumerate(spoken):
            prompt = "\n".join(str(m["content"]) for m in demo.calls(sent)[0].messages)
            forgotten = [earlier.text for earlier in spoken[:i] if earlier.text not in prompt]
            demo.promise(scene, not forgotten, f"the prompt of {sent.text} lacks {forgotten}")
        state = tagged(demo.calls(spoken[-1])[0].messages, "state")
        whitening = (state.get("service"), state.get("stage")) == ("ฟอกสีฟัน", "advising")
        demo.promise(scene, whitening, f"the last prompt's state is {state}")
    instances = demo.instances(*spoken)
    expected = min(len(demo.stack.turns), len(spoken))
    demo.promise(scene, len(set(instances)) >= min(2, expected), f"only {set(instances)} answered")
    return f"{len(spoken)} turns by {' '.join(instances)}"


async def consents(demo: Demo, scene: Scene, sent: Sent) -> bool:
    """The reply asks whether a health fact may be remembered; the customer taps the first answer."""
    (delivery,) = demo.simulator.answers(sent.event_id)
    asked = fixed_text(cast.BANGKOK, "consent") in "\n".join(delivery.texts)
    demo.promise(scene, asked, f"nobody asked for consent: {delivery.texts}")
    if not asked:
        return False
    action = delivery.messages[-1]["quickReply"]["items"][0]["action"]
    tap = demo.simulator.event(sent.clinic, sent.chat_id, "postback", postback={"data": action["data"]})
    await demo.simulator.send(tap)
    return await demo.answered(scene, tap)


async def remembered(demo: Demo, scene: Scene) -> str:
    """The conversation is over; what it taught about the customer is not."""
    sent = await demo.says(cast.BANGKOK, "พลอย", cast.COMES_BACK)
    await demo.answered(scene, sent)
    if not demo.judged_by_model:
        return "answered"
    messages = demo.calls(sent)[0].messages
    memory = tagged(messages, "memory")
    known = {"nickname": "พลอย", "allergy": "ยาเพนิซิลลิน"}
    demo.promise(scene, memory == known, f"the prompt's memory is {memory}")
    gone = not any(cast.CONVERSATION[1] in str(m["content"]) for m in messages)
    demo.promise(scene, gone, "the prompt still holds the conversation that is over")
    return "nickname and allergy stand in the prompt"


async def wrong_price(demo: Demo, scene: Scene) -> str:
    sent = await demo.says(cast.CHIANG_MAI, "น้ำ", f"{cast.WISDOM_TOOTH}ราคาเท่าไหร่คะ")
    if not await demo.answered(scene, sent):
        return "not answered"
    read = "\n".join(demo.said_to(sent))
    demo.promise(scene, cast.WRONG_PRICE not in read, f"the customer read {read}")
    if demo.judged_by_model:
        demo.promise(scene, cast.LISTED_PRICE in read, f"the customer read {read}")
        demo.promise(scene, len(demo.calls(sent)) == 2, f"{len(demo.calls(sent))} LLM calls")
    return "held back, asked again: the listed price"


async def killed(demo: Demo, scene: Scene) -> str:
    sent = await demo.says(cast.PHUKET, "โอ๋", "ปวดฟันมาก ถอนฟันวันนี้ได้ไหมคะ")
    await demo.under_way(sent)
    task = demo.task_of(sent)
    if task is None:
        scene.broken.append("the turn was over before its instance could be killed")
        return ""
    victim = demo.instance_of(task)
    died = time.monotonic()
    await demo.stack.kill_turn(victim)
    await demo.answered(scene, sent)
    took_s = time.monotonic() - died
    await demo.settled(sent)
    await demo.stack.restart_turn(victim)
    answers = demo.simulator.answers(sent.event_id)
    demo.promise(scene, len(answers) == 1, f"answered {len(answers)} times")
    if demo.judged_by_model:
        outcomes = [call.outcome for call in demo.calls(sent)]
        demo.promise(scene, outcomes == ["abandoned", "answered"], f"the LLM calls ended as {outcomes}")
    return f"turn-{victim} killed; one answer, {took_s:.1f} s later, by {demo.instances(sent)[0]}"


async def in_all(demo: Demo, scene: Scene) -> str:
    """What holds over all scenes together."""
    stack = demo.stack
    await stack.tasks.drained(15)
    wanted = [s for s in demo.simulator.sent.values() if s.event_id not in demo.silent]
    for sent in wanted:
        count = len(demo.simulator.answers(sent.event_id))
        # Without the stand-in's quotes it can't be told which of several bubbles a reply is for.
        once = count == 1 if demo.judged_by_model else count >= 1
        demo.promise(scene, once, f"answered {count} times: {sent.text or sent.event['type']}")
    slowest_s = max(ack.latency_s for s in demo.simulator.sent.values() for ack in s.acks)
    demo.promise(scene, slowest_s < 2.0, f"a webhook took {slowest_s:.1f} s")
    demo.promise(scene, not stack.line.broken_rules, f"LINE's rules were broken: {stack.line.broken_rules}")
    undescribed = found.violations if (found := specs()) else []
    demo.promise(scene, not undescribed, f"not as LINE and OpenAI describe it: {undescribed[:3]}")
    demo.promise(scene, not stack.tasks.dead, "the queue gave a task up")
    if demo.judged_by_model:
        refused = [call for call in stack.openai.calls if call.outcome == "refused"]
        demo.promise(scene, not refused, f"OpenAI refused {len(refused)} calls")
        demo.promise(scene, stack.openai.most <= 15, f"{stack.openai.most} LLM calls at once")
        most = max(stack.openai.most_by_clinic.values())
        demo.promise(scene, most <= 5, f"{most} LLM calls at once for one clinic")
    return f"each message answered once; slowest ack {slowest_s * 1000:.0f} ms"
