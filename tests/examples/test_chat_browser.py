"""The page, in a real Chromium: two people on two servers, while servers die and come back."""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.examples.test_chat_processes import Chat, chat

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install -e '.[e2e]'"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("there is no chromium here", allow_module_level=True)

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HTML = "<img src=x onerror=\"document.title='bad'\"><b>bold</b> & <script>alert(1)</script>"
PICTURES = os.environ.get("CHAT_PICTURES")
"""A directory for screenshots."""


@pytest.fixture
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


def person(browser: Any, name: str, address: str) -> "Page":
    """Somebody with a window of their own on the page at this address."""
    page: Page = browser.new_page(viewport={"width": 1100, "height": 720})
    page.set_default_timeout(20_000)
    page.errors = []  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: page.errors.append(str(error)))  # type: ignore[attr-defined]
    page.on("dialog", lambda dialog: page.errors.append("dialog"))  # type: ignore[attr-defined]
    page.goto(address)
    page.get_by_label("Your name").fill(name)
    return page


def say(page: "Page", text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Say").click()


def line(page: "Page", text: str) -> Any:
    return page.locator("#lines li").filter(has=page.get_by_text(text, exact=True))


def card(page: "Page", name: str) -> Any:
    return page.locator(f"#server-{name}")


def press(page: "Page", verb: str, name: str) -> None:
    page.get_by_role("button", name=f"{verb} server {name}").click()


def seen(page: "Page") -> list[tuple[int, str, str]]:
    """Number, id and text of all lines in the order in which they stand on the page."""
    lines = page.locator("#lines li").evaluate_all(
        "items => items.map(item => [Number(item.dataset.number), item.dataset.id,"
        " item.querySelector('.text').textContent])"
    )
    return [tuple(line) for line in lines]


def leader(page: "Page") -> str:
    sync_api.expect(page.locator("#headline")).to_have_text(
        re.compile(r"n\d leads in term \d+"), timeout=20_000
    )
    return page.locator("#headline").inner_text()[:2]


def picture(page: "Page", name: str) -> None:
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png")


def check_same(ann: "Page", bob: "Page", count: int) -> None:
    """Both have the same lines in the same order, without a gap or a double."""
    for page in (ann, bob):
        sync_api.expect(page.locator("#lines li.committed")).to_have_count(count, timeout=20_000)
    assert seen(ann) == seen(bob)
    assert [number for number, _, _ in seen(ann)] == list(range(1, count + 1))
    assert len({id for _, id, _ in seen(ann)}) == count


@pytest.mark.parametrize("options", [(), ("--processes",)], ids=["one process", "processes"])
def test_two_people_talk_while_servers_die(browser: Any, options: tuple[str, ...]) -> None:
    with chat(*options) as room:
        run(browser, room)
        assert room.end()[0] == 0


def test_the_page_goes_on_when_the_room_is_opened_again(browser: Any, tmp_path: Path) -> None:
    with chat("--data", str(tmp_path)) as room:
        page = person(browser, "ann", room.address)
        say(page, "before")
        sync_api.expect(line(page, "before")).to_contain_text("committed")
        ports = [address.rstrip("/").rpartition(":")[2] for address in room.pages().values()]
        room.end()
    sync_api.expect(page.locator("#where")).to_have_text("no server answers")
    say(page, "meanwhile")
    with chat("--data", str(tmp_path), "--port", ports[0]) as room:
        sync_api.expect(line(page, "meanwhile")).to_contain_text("committed")
        assert [(number, text) for number, _, text in seen(page)] == [
            (1, "before"),
            (2, "meanwhile"),
        ]
        check_same(page, person(browser, "bob", room.pages()["n3"]), 2)


def test_the_page_leaves_a_server_that_hangs(browser: Any) -> None:
    with chat("--processes") as room:
        page = person(browser, "ann", room.pages()["n2"])
        say(page, "before")
        sync_api.expect(line(page, "before")).to_contain_text("committed")
        child = child_of(room, "n2")
        os.kill(child, signal.SIGSTOP)
        try:
            sync_api.expect(page.locator("#where")).not_to_contain_text("n2")
            say(page, "after")
            sync_api.expect(line(page, "after")).to_contain_text("committed")
            assert [number for number, _, _ in seen(page)] == [1, 2]
        finally:
            os.kill(child, signal.SIGCONT)
        sync_api.expect(card(page, "n2")).to_contain_text("follower")
        assert room.end()[0] == 0


def child_of(room: Chat, name: str) -> int:
    for children in Path(f"/proc/{room.process.pid}/task").glob("*/children"):
        for child in children.read_text().split():
            if name.encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                return int(child)
    raise AssertionError(f"{name} has no process")


def run(browser: Any, room: Chat) -> None:
    expect = sync_api.expect
    pages = room.pages()
    ann = person(browser, "ann", pages["n1"])
    bob = person(browser, "bob", pages["n2"])
    expect(ann.locator("#where")).to_have_text("you are on n1")
    expect(bob.locator("#where")).to_have_text("you are on n2")

    # Both talk at once; HTML is text.
    first = leader(ann)
    for number in range(5):
        say(ann, f"ann {number}")
        say(bob, f"bob {number}")
    say(ann, HTML)
    check_same(ann, bob, 11)
    expect(line(bob, HTML)).to_have_count(1)
    expect(bob.locator("#lines b, #lines img, #lines script")).to_have_count(0)
    picture(ann, "talking")

    # The leader is killed at the push of a button; what is said meanwhile is sent, then committed.
    press(bob, "kill", first)
    say(ann, "said while the leader died")
    said = line(ann, "said while the leader died")
    expect(said).to_contain_text("committed")
    second = leader(ann)
    assert second != first
    expect(card(bob, first)).to_contain_text("down")
    check_same(ann, bob, 12)

    # Without a majority nothing is committed, and the page says so.
    third = ({"n1", "n2", "n3"} - {first, second}).pop()
    press(ann, "kill", second)
    expect(ann.locator("#banner")).to_be_visible()
    say(bob, "said without a leader")
    waiting = line(bob, "said without a leader")
    expect(waiting).to_contain_text("sent")
    bob.wait_for_timeout(1500)
    expect(waiting).not_to_contain_text("committed")
    expect(bob.get_by_role("button", name=f"kill server {third}")).to_be_disabled()
    expect(bob.locator("#where")).to_have_text(f"you are on {third}")
    picture(bob, "no-leader")
    press(ann, "start", first)
    expect(waiting).to_contain_text("committed")
    expect(ann.locator("#banner")).to_be_hidden()
    check_same(ann, bob, 13)
    press(bob, "start", second)
    expect(card(ann, second)).to_contain_text("follower")

    # Ann's own server dies: her page moves and goes on after its last line.
    home = ann.locator("#where").inner_text()[-2:]
    press(ann, "kill", home)
    expect(ann.locator("#where")).not_to_contain_text(home)
    say(bob, "did you move?")
    expect(line(ann, "did you move?")).to_contain_text("committed")
    say(ann, "I did")
    expect(line(bob, "I did")).to_contain_text("committed")
    check_same(ann, bob, 15)
    press(bob, "start", home)
    expect(card(ann, home)).to_contain_text("follower")
    picture(ann, "moved")

    # Who comes late has it all, from the server that was away.
    eve = person(browser, "eve", pages[home])
    check_same(ann, eve, 15)
    eve.set_viewport_size({"width": 390, "height": 780})
    eve.emulate_media(color_scheme="dark")
    picture(eve, "phone-dark")
    assert ann.title() == bob.title() == "The chat room"
    for page in (ann, bob, eve):
        assert page.errors == []
        page.close()
