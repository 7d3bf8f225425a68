"""The page in a real browser: it shows what the product has, and what is pressed is sent."""

import json
import os
import random
import signal
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from engine.plan import Plan
from frontend.gateway.keys import key_section, new_key
from tests.browser import Page, page_of
from tests.http import API, Http, serving
from tests.product import until
from tests.test_http_faults import pid_of

pytestmark = pytest.mark.servers
CHANGES = 1_000
MIDDLE = 10_000
HOSTILE = "<img src=x onerror=alert(1)>&amp;"


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    """A product whose first symbol is AA, on shard 0."""
    with serving(workers=1, extra='default_symbol = "AA"') as running:
        yield running


@pytest.fixture
def http(plan: Plan) -> Iterator[Http]:
    with Http(plan) as client:
        yield client
        for user in ("alice", "bob", HOSTILE):
            client.connection.close()
            until(lambda user=user: client.call("DELETE", orders_of(user)).status == 200)


def orders_of(user: str) -> str:
    return f"{API}/orders?user_id={quote(user)}"


def price(ticks: int) -> str:
    return f"{ticks // 100}.{ticks % 100:02}"


def ticks(text: str) -> int:
    return int(text.replace(".", ""))


def what_there_is(http: Http, user: str = "alice", symbol: str = "AA") -> dict[str, Any]:
    """Return what the page has to show, as REST has it."""
    book = http.get(f"{API}/orderbook?symbol={symbol}&depth=64&numbers=string")
    trades = http.get(f"{API}/trades?symbol={symbol}&limit=8&numbers=string")["trades"]
    found: list[Any] = []
    for status in ("open", "partial"):
        path = f"{orders_of(user)}&status={status}&limit=1000&numbers=string"
        found += http.get(path)["orders"]

    def levels(side: str) -> list[list[Any]]:
        rows = [[ticks(row["price"]), row["quantity"]] for row in book[side]]
        return sorted(rows, reverse=True)

    mine = [order for order in found if order["symbol"] == symbol]
    own = {(ticks(order["price"]), order["side"].lower()) for order in mine}
    return {
        "bids": levels("bids"),
        "asks": levels("asks"),
        "tape": [[trade["trade_id"], trade["price"], trade["quantity"]] for trade in trades],
        "orders": sorted(
            [order["order_id"], order["price"], order["remaining_quantity"]] for order in found
        ),
        "own": [list(row) for row in sorted(own, key=lambda row: (-row[0], row[1]))],
    }


class Flow:
    """Random changes to one book by two users."""

    def __init__(self, http: Http, seed: int) -> None:
        self.http = http
        self.chance = random.Random(seed)
        self.resting: list[tuple[int, str]] = []

    def change(self) -> None:
        """Make one."""
        chance = self.chance
        user = chance.choice(("alice", "bob"))
        what = chance.random()
        if what < 0.35 and self.resting:
            order_id, _ = self.resting.pop(chance.randrange(len(self.resting)))
            self.http.call("DELETE", f"{API}/orders/{order_id}")
            return
        side = chance.choice(("buy", "sell"))
        if what < 0.5:
            self.http.order(user, side, chance.randint(1, 9), symbol="AA")
            return
        away = chance.randint(-1, 12)
        at = MIDDLE - away if side == "buy" else MIDDLE + away
        entered = self.http.order(user, side, chance.randint(1, 20), price(at), symbol="AA")
        self.resting.append((entered["order_id"], user))
        if len(self.resting) > 40:
            order_id, _ = self.resting.pop(0)
            self.http.call("DELETE", f"{API}/orders/{order_id}")


def begin(http: Http) -> None:
    """Have a book whose middle the ladder takes: far orders would not be in view."""
    http.order("bob", "buy", 5, price(MIDDLE - 1), symbol="AA")
    http.order("bob", "sell", 5, price(MIDDLE + 1), symbol="AA")


def test_it_shows_book_tape_and_orders_after_each_change(
    browser: Any, plan: Plan, http: Http, seed: int
) -> None:
    begin(http)
    with page_of(browser, plan, "alice") as page:
        flow = Flow(http, seed)
        for _ in range(CHANGES):
            flow.change()
            page.shows("AA", what_there_is(http))
        page.picture("trading")
        assert page.page.inner_text("[title^='Sequence gaps']").endswith("0")


def test_a_dead_matcher_and_a_lost_connection_are_shown_and_made_good(
    browser: Any, plan: Plan, http: Http, seed: int
) -> None:
    begin(http)
    with page_of(browser, plan, "alice") as page:
        flow = Flow(http, seed)
        flow.change()
        page.shows("AA", what_there_is(http))
        matcher = pid_of(plan, "matcher")
        os.kill(matcher, signal.SIGSTOP)
        page.becomes("#down", "matcher 0")
        page.becomes(".ladder.old h2", "shard 0 down")
        page.picture("matcher-down")
        os.kill(matcher, signal.SIGKILL)
        page.becomes("#down", None)
        for _ in range(20):
            flow.change()
            page.shows("AA", what_there_is(http))
        os.kill(pid_of(plan, "http"), signal.SIGKILL)
        page.becomes("[title^='Connections lost']", "1")
        page.page.wait_for_selector("#connection[data-state=live]")
        http.connection.close()
        for _ in range(20):
            flow.change()
            page.shows("AA", what_there_is(http))


def test_a_slow_tab_shows_the_same(browser: Any, plan: Plan, http: Http, seed: int) -> None:
    begin(http)
    with page_of(browser, plan, "alice") as page:
        slow = page.context.new_cdp_session(page.page)
        slow.send("Emulation.setCPUThrottlingRate", {"rate": 8})
        flow = Flow(http, seed)
        for _ in range(3):
            for _ in range(60):
                flow.change()
            page.shows("AA", what_there_is(http))


def test_what_was_missed_is_noticed_and_read_anew(browser: Any, plan: Plan, http: Http) -> None:
    """One message of the book never comes: the next one tells, below the checksum's levels too."""
    for user, side in (("bob", "sell"), ("alice", "buy")):  # the last trade is not the middle
        http.order(user, side, 1, price(MIDDLE + 12), symbol="AA")
    begin(http)
    for away in range(2, 13):
        http.order("bob", "buy", 1, price(MIDDLE - away), symbol="AA")
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    dropped: list[str] = []

    def between(socket: Any) -> None:
        server = socket.connect_to_server()

        def pass_on(text: str) -> None:
            update = json.loads(text)
            if update.get("channel") == "depth" and update["type"] == "update" and not dropped:
                dropped.append(text)
                return
            socket.send(text)

        server.on_message(pass_on)

    page = Page(context, plan)
    page.page.route_web_socket("**/ws", between)
    page.open("alice")
    page.shows("AA", what_there_is(http))
    http.order("bob", "buy", 3, price(MIDDLE - 14), symbol="AA")
    until(lambda: bool(page.page.evaluate("1")) and bool(dropped))  # it lets messages pass
    http.order("bob", "buy", 4, price(MIDDLE - 15), symbol="AA")
    page.shows("AA", what_there_is(http))
    page.becomes("[title^='Sequence gaps']", "1")
    context.close()


def row(at: int, column: str) -> str:
    return f".ladder[data-symbol=AA] tr[data-ticks='{at}'] td.{column}"


def open_orders(http: Http, user: str = "alice") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get(f"{orders_of(user)}&status=open")["orders"]
    return found


def test_what_happens_while_a_stream_begins_is_shown(browser: Any, plan: Plan, http: Http) -> None:
    begin(http)
    held: list[tuple[Any, str]] = []

    def route(socket: Any) -> None:
        server = socket.connect_to_server()

        def take(message: str) -> None:
            asked = json.loads(message)
            if asked["op"] == "subscribe" and asked["channel"] in ("orders", "trades"):
                held.append((server, message))
            else:
                server.send(message)

        socket.on_message(take)

    def prepare(page: Any) -> None:
        page.route_web_socket(lambda url: True, route)

    with page_of(browser, plan, "alice", prepare) as page:
        while len(held) < 2:
            page.page.wait_for_timeout(10)
        # Whatever the page has asked for before is answered: there is one worker.
        page.page.evaluate(f"fetch('{API}/time').then((answer) => answer.text())")
        http.order("alice", "buy", 3, price(MIDDLE + 1), symbol="AA")
        http.order("alice", "buy", 2, price(MIDDLE - 2), symbol="AA")
        for server, message in held:
            server.send(message)
        page.shows("AA", what_there_is(http))


def test_the_ladder_trades_only_while_it_is_armed(browser: Any, plan: Plan, http: Http) -> None:
    begin(http)
    with page_of(browser, plan, "alice") as page:
        page.shows("AA", what_there_is(http))
        page.page.click(row(MIDDLE - 4, "bid"))
        assert page.page.input_value("#ticket-price") == price(MIDDLE - 4)
        assert open_orders(http) == []
        page.page.click("#arm")
        page.page.fill(".ladder .quantity", "7")
        page.page.click(row(MIDDLE - 4, "bid"))
        page.page.click(row(MIDDLE + 6, "ask"))
        until(lambda: len(open_orders(http)) == 2)
        page.shows("AA", what_there_is(http))
        sides = {order["side"]: (order["price"], order["quantity"]) for order in open_orders(http)}
        assert {side: (str(p), int(q)) for side, (p, q) in sides.items()} == {
            "BUY": (price(MIDDLE - 4), 7),
            "SELL": (price(MIDDLE + 6), 7),
        }
        page.picture("armed")
        page.page.click(row(MIDDLE - 4, "own"))
        until(lambda: len(open_orders(http)) == 1)
        page.page.press("body", "Escape")
        page.becomes("#arm", "Arm")
        page.page.click(row(MIDDLE - 5, "bid"))
        page.page.press("body", "Shift+X")
        until(lambda: open_orders(http) == [])
        page.shows("AA", what_there_is(http))


def test_keys_alone_trade(browser: Any, plan: Plan, http: Http) -> None:
    begin(http)
    with page_of(browser, plan) as page:
        keys = page.page.keyboard
        keys.press("u")
        page.page.wait_for_selector("dialog[open]")
        keys.type("alice")
        keys.press("Enter")
        page.is_logged_in("alice")
        page.shows("AA", what_there_is(http))
        keys.press("b")
        page.page.wait_for_selector("#ticket-price:focus")
        assert page.page.input_value("#ticket-price") == price(MIDDLE - 1)
        keys.press("ArrowDown")
        keys.press("Enter")
        until(lambda: len(open_orders(http)) == 1)
        assert str(open_orders(http)[0]["price"]) == price(MIDDLE - 2)
        page.shows("AA", what_there_is(http))
        keys.press("Escape")
        keys.press("l")
        keys.press("a")
        page.becomes("#arm", "ARMED")
        keys.press("Home")
        for _ in range(5):
            keys.press("ArrowUp")
        keys.press("s")
        until(lambda: len(open_orders(http)) == 2)
        page.shows("AA", what_there_is(http))
        keys.press("x")
        until(lambda: len(open_orders(http)) == 1)
        keys.press("Shift+X")
        until(lambda: open_orders(http) == [])
        keys.press("?")
        page.page.wait_for_selector("dialog[open]")
        page.becomes("dialog h2", "Keys")


def test_positions_follow_the_fills_and_are_flattened(browser: Any, plan: Plan, http: Http) -> None:
    user = "carol"
    http.order("bob", "sell", 10, "50.00", symbol="CC")
    http.order(user, "buy", 4, "50.00", symbol="CC")
    with page_of(browser, plan, user) as page:
        page.page.click(".watch tr[data-symbol=CC] button")
        page.page.click("text=Positions")
        page.becomes("#positions tr[data-symbol=CC]", "long")
        http.order(user, "buy", 2, "50.00", symbol="CC")
        http.order("bob", "buy", 20, "49.00", symbol="CC")
        http.order("dave", "sell", 2, "49.00", symbol="CC")
        cells = "#positions tr[data-symbol=CC] td:nth-child({})"
        page.becomes(cells.format(3), "6")
        page.becomes(cells.format(5), "49.00")
        page.becomes(cells.format(6), "-6.00")
        page.picture("positions")
        page.page.click("#positions tr[data-symbol=CC] button")
        page.page.click("dialog button.main")
        page.becomes(cells.format(2), "flat")
        page.becomes(cells.format(7), "-6.00")
        assert http.get(f"{API}/trades?user_id={user}&symbol=CC")["count"] == 3
    for name in ("bob", user, "dave"):
        http.call("DELETE", orders_of(name))


def test_a_refusal_is_shown_at_its_field(browser: Any, plan: Plan, http: Http) -> None:
    with page_of(browser, plan, "alice") as page:
        page.page.fill("#ticket-price", "1.005")
        page.page.click("#ticket .send")
        page.becomes("#ticket-price-error", "0.01")
        assert page.page.get_attribute("#ticket-price", "aria-invalid") == "true"
        page.picture("refused")
        page.page.fill("#ticket-price", "1.00")
        page.becomes("#ticket-price-error", None)
        page.page.fill("#ticket-quantity", "0")
        page.page.click("#ticket .send")
        page.becomes("#ticket-quantity-error", "")
        assert open_orders(http) == []


def test_the_ticket_has_what_the_description_has(browser: Any, plan: Plan, http: Http) -> None:
    """A type and a field that the page has never heard of; and a type's prices alone."""
    context = browser.new_context()
    page = Page(context, plan)

    def more(route: Any) -> None:
        answer = route.fetch()
        description = answer.json()
        order = description["components"]["schemas"]["NewOrder"]
        order["properties"]["order_type"]["examples"].append("MOONSHOT")
        order["properties"]["moon_phase"] = {"type": "string", "examples": ["NEW", "FULL"]}
        order["properties"]["wake_time_ns"] = {"type": "integer"}
        order["x-order-types"]["MOONSHOT"] = {"required": ["moon_phase"], "refused": ["price"]}
        route.fulfill(response=answer, json=description)

    sent: list[str] = []

    def keep(text: Any) -> None:
        sent.append(text)

    page.page.route("**/openapi.json", more)
    page.page.on("websocket", lambda socket: socket.on("framesent", keep))
    page.open("alice")
    for kind, has, has_not in (
        ("LIMIT", "price", "stop_price"),
        ("STOP", "stop_price", "price"),
        ("STOP_LIMIT", "stop_price", None),
        ("MOONSHOT", "moon_phase", "price"),
    ):
        page.page.select_option("#ticket-order_type", kind)
        page.page.wait_for_selector(f"#ticket-{has}")
        assert has_not is None or page.page.query_selector(f"#ticket-{has_not}") is None
    page.page.fill("#ticket-quantity", "3")
    page.page.select_option("#ticket-moon_phase", "FULL")
    page.page.fill("#ticket-client_order_id", "9007199254740995")
    page.page.fill("#ticket-wake_time_ns", "2027-01-01T00:00:01")
    page.page.click("#ticket .send")
    page.becomes("#ticket-moon_phase-error", "is not a field of this request")
    (order,) = [json.loads(text)["order"] for text in sent if "MOONSHOT" in text]
    assert order["client_order_id"] == 9007199254740995
    assert order["wake_time_ns"] % 10**9 == 0 < order["wake_time_ns"] - 1_798_700_000 * 10**9
    context.close()


def test_names_of_others_are_text(browser: Any, plan: Plan, http: Http) -> None:
    with page_of(browser, plan, HOSTILE) as page:
        assert HOSTILE in page.page.inner_text("#who")
        http.order(HOSTILE, "buy", 1, price(MIDDLE - 1), symbol="AA")
        page.page.wait_for_selector("#orders tbody tr")
        assert page.page.query_selector("#app img:not(.brand img)") is None


def test_with_keys_nothing_is_shown_without_one_and_none_is_kept(browser: Any) -> None:
    key = new_key()
    before = key_section("alice", key) + "\n"
    context = browser.new_context()
    with serving(workers=1, before=before, extra='default_symbol = "AA"') as keyed:
        page = Page(context, keyed)
        page.page.goto(page.origin)
        page.becomes("#connection", "no key")
        for text in ("sb_wrong", key):
            if not page.page.is_visible("#key"):
                page.page.press("body", "u")
            page.page.fill("#key", text)
            page.page.press("#key", "Enter")
            if text != key:
                page.becomes("dialog .error", "key")
                page.page.press("#key", "Escape")
                page.becomes("dialog", None)
        page.page.wait_for_selector("#connection[data-state=live]")
        page.is_logged_in("alice")
        page.page.fill("#ticket-price", "1.00")
        page.page.click("#ticket .send")
        page.page.wait_for_selector("#orders tbody tr[data-id]")
        kept = page.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
        assert key not in kept + page.page.url + page.page.content()
        assert "theme" in kept
        page.page.reload()
        page.becomes("#connection", "no key")
    context.close()


def without_sound(violations: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [
        (found["id"], node["html"][:200] + str(node.get("failureSummary", ""))[:300])
        for found in violations
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [1600, 360, 3840])
def test_nothing_serious_stands_in_the_way_of_anybody(
    browser: Any, plan: Plan, http: Http, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    begin(http)
    http.order("alice", "buy", 1, price(MIDDLE + 1), symbol="AA")
    http.order("alice", "buy", 2, price(MIDDLE - 3), symbol="AA")
    size = {"width": width, "height": 800 if width < 3000 else 2000}
    # The page's own policy lets nobody put a script into it; the auditor has to.
    options = {"viewport": size, "color_scheme": scheme, "bypass_csp": True}
    with page_of(browser, plan, "alice", **options) as page:
        page.page.wait_for_selector(".ladder tbody tr.last", state="attached")

        def sound(state: str) -> None:
            page.picture(f"{scheme}-{width}-{state}")
            found = without_sound(axe.run(page.page).response["violations"])
            assert found == [], state
            wide = page.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, state

        sound("trade")
        if width == 360:
            for part in ("Watch", "Ticket", "Chart", "Tape", "Orders"):
                page.page.click(f".sections >> text={part}")
                sound(part.lower())
        page.page.click("#help")
        page.page.wait_for_selector("dialog[open]")
        sound("help")
        page.page.click("dialog button.main")
        page.page.click("#operations")
        page.page.wait_for_selector("#processes tbody tr")
        sound("operations")


def test_the_operations_view_tells_what_the_metrics_do(
    browser: Any, plan: Plan, http: Http
) -> None:
    with page_of(browser, plan) as page:
        page.page.click("#operations")
        page.page.wait_for_selector("#processes tbody tr")
        shown = page.page.evaluate(
            "[...document.querySelectorAll('#processes tbody tr')].map((r) => r.dataset.process)"
        )
        text = http.call("GET", "/metrics").raw.decode()
        up = [line for line in text.splitlines() if line.startswith("shardbook_up{")]
        assert len(shown) == len(up) > 3
        assert {"matcher 0", "matcher 1", "http 0"} <= set(shown)
        page.picture("operations")


def test_candles_and_depth_are_of_the_trades_and_the_book(
    browser: Any, plan: Plan, http: Http
) -> None:
    http.order("bob", "sell", 3, "70.00", symbol="DD")
    http.order("alice", "buy", 3, "70.00", symbol="DD")
    http.order("bob", "buy", 3, "69.00", symbol="DD")
    with page_of(browser, plan) as page:
        page.page.click(".watch tr[data-symbol=DD] button")
        page.page.wait_for_selector(".plot.candles[data-candles='1'][data-close='70']")
        page.page.wait_for_selector(".plot.depth[data-levels='1']")
        http.order("bob", "sell", 1, "71.00", symbol="DD")
        http.order("alice", "buy", 1, "71.00", symbol="DD")
        page.page.wait_for_selector(".plot.candles[data-close='71']")
        assert page.page.get_attribute(".plot.depth", "data-levels") == "1"
    for user in ("alice", "bob"):
        http.call("DELETE", orders_of(user))
