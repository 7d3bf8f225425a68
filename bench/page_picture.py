"""Draws the README's picture of the page: a calm market, and somebody who trades in it.

python -m bench.page_picture [--seconds N] [--out FILE] [--theme dark|light] [--width N]
"""

import argparse
import time
from pathlib import Path

from bench.chromium import chromium, log_in, moving
from frontend.client.blocking import Client

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
        symbol = market.plan.instruments[0].symbol
        end_s = time.monotonic() + options.seconds
        with Client(str(market.plan.addresses()[0]), user_id=USER) as client:
            while time.monotonic() < end_s:
                trade(client, symbol)
                page.wait_for_timeout(min(4_000.0, options.seconds * 200))
            rest(client, symbol)
        page.click(".charts button:text-is('1s')")
        page.wait_for_timeout(1_500)
        page.screenshot(path=options.out)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")


def trade(client: Client, symbol: str) -> None:
    """Buy or sell a little at the market."""
    side = ("buy", "sell", "buy")[int(time.monotonic() / 4) % 3]
    client.submit(symbol, side, 5 + int(time.monotonic()) % 20, order_type="market")


def rest(client: Client, symbol: str) -> None:
    """Leave some orders in the book."""
    book = client.book(symbol)
    tick = client.instruments[symbol].tick_size
    for away in (3, 5, 8):
        client.submit(symbol, "buy", 10 * away, price=book.bids[0].price - away * tick)
        client.submit(symbol, "sell", 10 * away, price=book.asks[0].price + away * tick)


if __name__ == "__main__":
    main()
