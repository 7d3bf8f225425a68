"""REST and WebSocket: HTTP workers, which read shared memory and send orders to the matchers."""
