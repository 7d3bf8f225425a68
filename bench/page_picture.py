"""Draws the README's picture of the page: a calm market, and somebody who trades in it.

python -m bench.page_picture [--seconds N] [--out FILE] [--theme dark|light] [--width N]
"""

import argparse
import time
from decimal import Decimal
from pathlib import Path

from bench.chromium import chromium, log_in, moving
from frontend.client.blocking import Client
from ipc.instruments import Instrument

OUT = Path(__file__).resolve().parent.parent / "frontend" / "docs" / "page.png"
USER = "alice"
CHANGES_PER_S = 150.0


def main() -> None:
    """Let a market go on for a while, trade a little, and draw the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.page_picture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=75.0)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument("--width", type=int, default=1600)
    parser.add_argument("--height", type=int, default=900)
    options = parser.parse_args()
    with moving(4, CHANGES_PER_S) as market, chromium() as browser:
        page = browser.new_page(
            viewport={"width": options.width, "height": options.height},
            color_scheme=options.theme,
        )
        page.goto(market.address)
        log_in(page, USER)
        first = market.plan.instruments[0]
        end_s = time.monotonic() + options.seconds
        with Client(str(market.plan.addresses()[0]), user_id=USER) as client:
            while time.monotonic() < end_s:
                trade(client, first.symbol)
                page.wait_for_timeout(min(4_000.0, options.seconds * 200))
            rest(client, first)
        page.click(".charts button:text-is('1s')")
        page.wait_for_timeout(1_500)
        page.screenshot(path=options.out)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")


def trade(client: Client, symbol: str) -> None:
    """Buy or sell a little at the market."""
    side = ("buy", "sell", "buy")[int(time.monotonic() / 4) % 3]
    client.submit(symbol, side, 5 + int(time.monotonic()) % 20, order_type="market")


def rest(client: Client, instrument: Instrument) -> None:
    """Leave some orders in the book."""
    book = client.book(instrument.symbol)
    tick = Decimal(instrument.tick.text(1))
    for away in (3, 5, 8):
        for side, best in (("buy", book.bids[0].price), ("sell", book.asks[0].price)):
            price = best - away * tick if side == "buy" else best + away * tick
            client.submit(instrument.symbol, side, 10 * away, price=price)


if __name__ == "__main__":
    main()
