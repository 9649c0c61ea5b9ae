"""The demo's scenes of how people write: in bubbles, with stickers, pictures and quotes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from core.local import demo_cast as cast
from core.local.demo_play import Demo, Scene, fixed_text
from core.local.simulator import Sent

_APART_S = 0.3


async def bubbles(demo: Demo, scene: Scene) -> str:
    """Only the last of them asks something."""
    began, written = time.monotonic(), list[Sent]()
    for words in cast.BUBBLES:
        if written:
            await asyncio.sleep(_APART_S)
        written.append(await demo.says(cast.CHIANG_MAI, "บอย", words))
    took_s = time.monotonic() - began
    await demo.answered(scene, *written)
    await demo.settled(*written)
    answers = {id(d) for bubble in written for d in demo.simulator.answers(bubble.event_id)}
    demo.promise(scene, len(answers) == 1, f"{len(answers)} answers to six bubbles")
    if demo.judged_by_model:
        prompts = [call.last_words.splitlines() for call in demo.calls(*written)]
        demo.promise(scene, prompts == [list(cast.BUBBLES)], f"the calls were for {prompts}")
    return f"sent within {took_s:.1f} s, one answer"


async def sticker(demo: Demo, scene: Scene) -> str:
    clinic, user = demo.customer(cast.PHUKET, "จูน")
    sent = await demo.simulator.send(demo.simulator.message(clinic, user, "sticker"))
    await demo.answered(scene, sent)
    said = demo.said_to(sent)
    demo.promise(scene, said == [fixed_text(clinic.org_id, "sticker")], f"the answer was {said}")
    return "a line of the clinic's, no LLM call"


async def sticker_with_words(demo: Demo, scene: Scene) -> str:
    clinic, user = demo.customer(cast.PHUKET, "แนน")
    said: dict[str, Any] = {
        "text": cast.STICKER_SAYS,
        "stickerResourceType": "MESSAGE",
        "keywords": ["bow", "thanks"],
    }
    sent = demo.simulator.message(clinic, user, "sticker", **said)
    await demo.simulator.send(sent)
    if await demo.answered(scene, sent) and demo.judged_by_model:
        words = [call.last_words for call in demo.calls(sent)]
        demo.promise(scene, words == [cast.STICKER_SAYS], f"the calls were for {words}")
    return "its words were answered"


async def picture(demo: Demo, scene: Scene) -> str:
    clinic, user = demo.customer(cast.BANGKOK, "ฝน")
    sent = await demo.simulator.send(demo.simulator.message(clinic, user, "image"))
    if not await demo.answered(scene, sent):
        return "broke off"
    said = demo.said_to(sent)
    demo.promise(scene, said == [fixed_text(clinic.org_id, "image")], f"the answer was {said}")
    asked = await demo.says(cast.BANGKOK, "ฝน", cast.ABOUT_PICTURE)
    if await demo.answered(scene, asked) and demo.judged_by_model:
        history = [message["content"] for message in demo.calls(asked)[0].messages[2:-1]]
        demo.promise(scene, history == ["[image]", *said], f"the prompt's history is {history}")
    return "the prompt knows of the picture"


async def quote(demo: Demo, scene: Scene) -> str:
    org, name = cast.BANGKOK, "อ้อม"
    priced = []
    for words in cast.TWO_PRICES:
        priced.append(await demo.says(org, name, words))
        if not await demo.answered(scene, priced[-1]):
            return "broke off"
        await demo.settled(priced[-1])
    (first,) = demo.simulator.answers(priced[0].event_id)
    clinic, user = demo.customer(org, name)
    this = demo.simulator.message(
        clinic, user, "text", text=cast.THIS_ONE, quotedMessageId=first.message_ids[0]
    )
    await demo.simulator.send(this)
    if await demo.answered(scene, this) and demo.judged_by_model:
        state = str(demo.calls(this)[0].messages[1]["content"])
        shown = state.partition("<quoted>")[2].replace("\\n", "\n")
        demo.promise(scene, first.texts[0] in shown, f"the prompt has no quote of the first answer: {state}")
    return "the quoted answer stands in the prompt"
