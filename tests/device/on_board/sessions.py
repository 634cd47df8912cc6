"""Runs on MicroPython: sessions of device/link.py against whatever listens, and what came of each, as JSON lines.

argv[1], JSON: host, port, sessions, frames (per session), size, budget_ms, linger_ms (after the broker has answered),
pause_ms (between sessions), device, root, ca (DER, in root), same_keys (later sessions send again what earlier ones
sent), dns, now_s (what the board believes, 0: nothing), clock (a file, in root, that tests/support/clock.c reads),
lwip (poll as on an ESP32).
"""

import json
import select
import sys
import time

from contract.wire import MAX_DOWN_BYTES
from device import stream
from device.errors import LinkError
from device.files import Files
from device.link import Link

args = json.loads(sys.argv[1])


class LwipPoll:
    """select.poll of the ESP32 port: it reports what was asked for, errors not (ports/esp32/modsocket.c, POLL)."""

    def __init__(self):
        self._poll = select.poll()
        self._asked = 0

    def register(self, sock, events):
        self._asked = events
        self._poll.register(sock, events)

    def modify(self, sock, events):
        self._asked = events
        self._poll.modify(sock, events)

    def unregister(self, sock):
        self._poll.unregister(sock)

    def poll(self, wait_ms):
        ready = []
        for sock, got in self._poll.poll(wait_ms):
            if got & (select.POLLERR | select.POLLHUP):  # lwIP lets whoever waits go on (api_msg.c, err_tcp)
                got = select.POLLIN | select.POLLOUT | select.POLLHUP
            ready.append((sock, got & self._asked))
        return ready


class LwipSelect:
    poll = LwipPoll
    POLLIN, POLLOUT, POLLERR, POLLHUP = select.POLLIN, select.POLLOUT, select.POLLERR, select.POLLHUP


if args.get("lwip"):
    stream.select = LwipSelect


class Board:
    root = args.get("root", ".")

    def radio_up(self, until, cache):
        return b"learned of this access point"[:24]

    def radio_down(self):
        pass

    def set_date(self, date):
        dates.append(date)
        if "clock" in args:
            with open(self.root + "/" + args["clock"], "w") as file:
                file.write(str(time.mktime(date + (0, 0))))

    def dns_server(self):
        return tuple(args.get("dns", ("127.0.0.1", 53)))


broker = {"host": args.get("host", "127.0.0.1"), "port": args["port"]}
broker.update(args.get("login", {}))
tls = None
if "ca" in args:
    from device.secure import Tls

    broker["ca"] = args["ca"]
    tls = Tls(Files, Board(), broker, args.get("now_s", time.time()))
link = Link(Board(), Files, args.get("device", "pump-1"), broker, memoryview(bytearray(MAX_DOWN_BYTES)), tls)
dates = []
messages = []
link.on_message = lambda kind, payload, _retained: messages.append(
    [kind, len(payload), payload[0] if len(payload) else -1]
)
frame = bytearray(args.get("size", 40))
for session in range(args.get("sessions", 1)):
    messages.clear()
    began = time.ticks_us()
    answered = began
    fault, detail, resumed = -1, "", False
    try:
        link.open(args.get("budget_ms", 10000))
        for number in range(args.get("frames", 3)):
            key = number if args.get("same_keys") else (session, number)
            frame[0:4] = number.to_bytes(4, "big")
            link.send(frame, key)
        link.settle()
        answered = time.ticks_us()
        resumed = link.resumed
        end = time.ticks_add(time.ticks_ms(), args.get("linger_ms", 0))
        while time.ticks_diff(end, time.ticks_ms()) > 0:
            link.poll(time.ticks_diff(end, time.ticks_ms()))
    except LinkError as error:
        fault, detail = error.fault, error.detail
    link.close(fault if fault >= 0 else None)
    print(
        json.dumps(
            {
                "ms": time.ticks_diff(time.ticks_us(), began) // 1000,
                "answered_us": time.ticks_diff(answered, began),
                "fault": fault,
                "detail": detail,
                "resumed": resumed,
                "turns": link.turns,
                "refused": link.refused,
                "counts": [link.sessions, link.radio_ms, link.tx_bytes, link.rx_bytes, link.failures],
                "messages": messages,
                "dates": dates,
                "cached": any(link.radio_cache),
            }
        )
    )
    time.sleep_ms(args.get("pause_ms", 0))
