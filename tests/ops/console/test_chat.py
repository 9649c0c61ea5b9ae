"""`fairlane dev` in a browser: what a visitor does with the chat and the pages, on the whole system."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

from core.local.line_events import line_id
from tests.support.browser import NARROW, WIDE, Watched, browser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_STARTS_WITHIN_S, _ANSWER_MS = 90, 30_000


@dataclass(frozen=True, slots=True)
class Visit:
    """A window on the system. `base`: where the console is."""

    seen: Watched
    base: str

    def at(self, test_id: str) -> Locator:
        return self.seen.page.get_by_test_id(test_id)

    def go(self, path: str) -> None:
        answer = self.seen.page.goto(self.base + path)
        assert answer is not None
        assert answer.status == 200

    def talks(self, name: str, org: str = "sample-clinic") -> None:
        """A new customer, at a clinic."""
        self.go("/chat")
        self.at("chat-clinic").select_option(org)
        self.at("chat-customer").fill(name)
        self.at("chat-customer").press("Tab")

    def says(self, text: str) -> None:
        self.at("chat-input").fill(text)
        self.at("chat-send").click()

    def hears(self, text: str) -> None:
        expect(self.at("bubble-bot").filter(has_text=text).last).to_be_visible(timeout=_ANSWER_MS)

    def desk_hears(self, text: str) -> Locator:
        found = self.at("bubble-desk").filter(has_text=text).last
        expect(found).to_be_visible(timeout=_ANSWER_MS)
        return found

    def switches(self, fault: str) -> None:
        self.at(f"fault-{fault}").click()
        expect(self.seen.page.locator("#faults [role=status]")).not_to_be_empty()


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def opened(window: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """The running system: where its console is, and the cookie of the browser that opened it."""
    said = tmp_path_factory.mktemp("dev") / "said"
    with said.open("w") as out:
        command = [str(Path(sys.executable).parent / "fairlane"), "dev", "--turns", "2"]
        running = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        found = _until(lambda: re.search(r"console +(\S+)", said.read_text()), running)
        url = found[1]
        context = window.new_context()
        context.new_page().goto(url)
        state = context.storage_state()
        context.close()
        yield url.partition("/?")[0], state
    finally:
        running.send_signal(signal.SIGINT)
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def _until(look: Callable[[], re.Match[str] | None], running: subprocess.Popen[bytes]) -> re.Match[str]:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline and running.poll() is None:
        if found := look():
            return found
        time.sleep(0.1)
    pytest.fail("fairlane dev did not start")


@pytest.fixture(params=["wide", "narrow"])
def visit(request: pytest.FixtureRequest, window: Browser, opened: tuple[str, Any]) -> Iterator[Visit]:
    """Whatever a test is about: no error in the browser's console, and no request that leaves the machine."""
    base, state = opened
    viewport: Any = WIDE if request.param == "wide" else NARROW
    context = window.new_context(viewport=viewport, storage_state=state, locale="en")
    seen = Watched.of(context)
    yield Visit(seen, base)
    context.close()
    assert seen.complaints == []
    assert seen.outside == []


def test_chat_in_thai_to_an_answer_with_its_cost_and_timeline(visit: Visit) -> None:
    visit.talks("มะลิ" + _which(visit))
    visit.says("ขูดหินปูนราคาเท่าไหร่คะ")
    expect(visit.at("bubble-customer").last).to_have_text("ขูดหินปูนราคาเท่าไหร่คะ")
    visit.hears("900 บาท")
    below = visit.seen.page.locator("details[data-keep]").last
    expect(below.locator("summary")).to_contain_text("gpt-6.1-terra")
    expect(below.locator("summary")).to_contain_text("฿0.")
    below.locator("summary").click()
    expect(below.get_by_test_id("turn-timeline")).to_contain_text("enqueued")


def test_several_bubbles_at_once_get_one_answer(visit: Visit) -> None:
    visit.talks("ก้อง" + _which(visit))
    visit.says("สวัสดีครับ\nพอดีว่า\nฟอกสีฟันเท่าไหร่ครับ")
    visit.hears("4,500 บาท")
    assert visit.at("bubble-customer").count() == 3
    assert visit.at("bubble-bot").filter(has_text="สวัสดี").count() == 1


def test_hand_off_to_the_desk_and_back(visit: Visit) -> None:
    visit.talks("ปุ้ย" + _which(visit))
    if visit.at("desk-connect").count():
        visit.at("desk-connect").click()
        visit.desk_hears("เชื่อมต่อแล้ว")
    visit.says("ขอคุยกับเจ้าหน้าที่ค่ะ")
    notice = visit.desk_hears("ปุ้ย" + _which(visit))
    expect(notice).to_contain_text("ลูกค้ารอคุยกับเจ้าหน้าที่")
    notice.get_by_test_id("desk-tap").nth(0).click()
    visit.desk_hears("รับเรื่องของปุ้ย" + _which(visit))
    visit.says("มีใครอยู่ไหมคะ")
    visit.seen.page.wait_for_timeout(2_000)  # as long as an answer would take
    answers = visit.at("bubble-bot").filter(has_not_text="…").count()
    visit.at("bubble-desk").filter(has_text="ลูกค้ารอคุยกับเจ้าหน้าที่").last.get_by_test_id("desk-tap").nth(
        1
    ).click()
    visit.desk_hears("คืนแชตของปุ้ย" + _which(visit))
    visit.says("ขูดหินปูนเท่าไหร่คะ")
    visit.hears("900 บาท")
    assert visit.at("bubble-bot").filter(has_not_text="…").count() == answers + 1  # silent in between


def test_booking_to_its_confirmation(visit: Visit) -> None:
    visit.talks("พลอย" + _which(visit))
    visit.says("ขอนัดฟอกสีฟันวันจันทร์ค่ะ")
    visit.hears("กี่โมง")
    visit.at("quick-reply").filter(has_text="14:00").click()
    visit.hears("รับคำขอนัดฟอกสีฟัน")
    page = visit.seen.page
    visit.go("/bookings?words=1")
    row = visit.at("booking-row").filter(has=page.locator(f"a[href*='{_chat_id(visit)}']"))
    row = row if row.count() else visit.at("booking-row").filter(has_text="requested").last
    row.get_by_role("button", name=re.compile("^Confirm")).click()
    expect(page.get_by_role("status").first).to_contain_text("confirmed")
    expect(visit.at("booking-row").filter(has_text="confirmed").last).to_be_visible()
    visit.go(f"/chat?org=sample-clinic&customer=พลอย{_which(visit)}")
    visit.hears("ยืนยัน")


def test_failed_turn_is_replayed(visit: Visit) -> None:
    visit.talks("เอก" + _which(visit))
    visit.switches("down")
    visit.says("อุดฟันราคาเท่าไหร่ครับ")
    summary = visit.seen.page.locator("details[data-keep] summary", has_text="server_error").last
    expect(summary).to_be_visible(timeout=60_000)
    visit.switches("down")
    visit.go("/turns?state=failed")
    visit.at("turn-row").first.locator("a").first.click()
    expect(visit.at("turn-timeline")).to_contain_text("failed", timeout=30_000)
    visit.seen.page.get_by_role("button", name="Answer it again").click()
    expect(visit.seen.page.get_by_role("status").first).to_contain_text("Enqueued")
    visit.go(f"/chat?org=sample-clinic&customer=เอก{_which(visit)}")
    visit.hears("800-1,500 บาท")


def test_price_is_changed_and_rolled_back(visit: Visit) -> None:
    page = visit.seen.page
    visit.go("/clinics/sample-skin")
    before = int(visit.at("version-row").first.locator("a").inner_text())
    price = page.get_by_label("Baht, or a range: ทรีตเมนต์")
    old = price.input_value()
    price.fill("1750")
    page.get_by_role("button", name="Save the prices").click()
    expect(page.get_by_role("status").first).to_contain_text("Saved")
    visit.talks("ดาว" + _which(visit), "sample-skin")
    visit.says("ทรีตเมนต์ราคาเท่าไหร่คะ")
    visit.hears("1,750 บาท")
    visit.go(f"/clinics/sample-skin/versions/{before}")
    page.get_by_role("button", name=f"Bring version {before} back").click()
    expect(page.get_by_role("status").first).to_contain_text(f"Version {before} is back")
    expect(page.get_by_label("Baht, or a range: ทรีตเมนต์")).to_have_value(old)
    visit.talks("ฟ้า" + _which(visit), "sample-skin")
    visit.says("ทรีตเมนต์ราคาเท่าไหร่คะ")
    visit.hears("1,200 บาท")


def test_what_is_not_stated_is_answered_in_place(visit: Visit) -> None:
    visit.talks("ต้น" + _which(visit))
    question = {"wide": "รับทำฟันเด็กไหมคะ", "narrow": "มีหมอผู้หญิงไหมคะ"}[_which(visit)]
    visit.says(question)
    visit.hears("เจ้าหน้าที่ยืนยัน")
    visit.go("/questions")
    row = visit.at("question-row").filter(has_text=question)
    row.get_by_role("textbox").fill("มีค่ะ แจ้งล่วงหน้าได้เลย")
    row.get_by_role("button", name="Approve").click()
    expect(visit.seen.page.get_by_role("status").first).to_contain_text(question)
    visit.talks("นุ่น" + _which(visit))
    visit.says(question)
    visit.hears("แจ้งล่วงหน้าได้เลย")


def test_an_instance_dies_and_redis_is_emptied_and_customers_are_answered(visit: Visit) -> None:
    visit.talks("บอย" + _which(visit))
    visit.switches("kill")
    visit.says("จัดฟันราคาเท่าไหร่คะ")
    visit.hears("39,000")
    visit.switches("empty")
    visit.says("อุดฟันราคาเท่าไหร่คะ")
    visit.hears("800")


PAGES = (
    "/chat",
    "/now",
    "/conversations",
    "/turns",
    "/clinics",
    "/clinics/sample-clinic",
    "/clinics/sample-clinic/versions/1",
    "/bookings",
    "/questions",
    "/spend",
)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "th"])
def test_everybody_can_use_every_page(visit: Visit, language: str, theme: str) -> None:
    cookies: Any = [
        {"name": "fairlane-language", "value": language, "url": visit.base},
        {"name": "fairlane-theme", "value": theme, "url": visit.base},
    ]
    visit.seen.context.add_cookies(cookies)
    found: dict[str, list[str]] = {}
    for path in PAGES:
        visit.go(path)
        found[path] = visit.seen.faults_of_access()
        wide = visit.seen.page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not wide, f"{path} is wider than the window"
    assert {path: faults for path, faults in found.items() if faults} == {}


def test_pages_show_what_happened(visit: Visit) -> None:
    visit.talks("แนน" + _which(visit))
    visit.says("จัดฟันราคาเท่าไหร่คะ")
    visit.hears("39,000")
    visit.go("/now")
    expect(visit.at("slots-limit")).to_contain_text("/ 15")
    visit.go("/turns")
    expect(visit.at("turn-row").first).to_be_visible()
    visit.go("/spend")
    expect(visit.at("spend-row").first).to_be_visible()


def _which(visit: Visit) -> str:
    """Tells the wide window's customers from the narrow one's."""
    size = visit.seen.page.viewport_size
    return "wide" if size and size["width"] == WIDE["width"] else "narrow"


def _chat_id(visit: Visit) -> str:
    return line_id("U", "sample-clinic", "user", "พลอย" + _which(visit))
