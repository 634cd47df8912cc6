"""What device/board/esp32.py uses of the chip's `network`: access points that come and go, DHCP, a static address.

`air` is the world: access points as (ssid, bssid, channel, rssi, password), in `heard` what the board did, in `raises`
what ESP-IDF answers, as the port says it (ports/esp32/network_common.c, esp_exceptions_helper).
"""

STA_IF = 0
_LEASE = ("10.1.2.3", "255.255.254.0", "10.1.2.1", "10.1.2.2")

air = {"points": [], "takes_channel": False, "heard": [], "raises": None}


class WLAN:
    def __init__(self, interface):
        assert interface == STA_IF
        self._active = False
        self._joined = None
        self._address = None

    def active(self, on):
        if air["raises"]:
            raise air["raises"]
        self._active = on
        if not on:
            self._joined = None

    def scan(self):
        assert self._active
        air["heard"].append("scan")
        return [(ssid.encode(), bssid, channel, rssi, 3, False) for ssid, bssid, channel, rssi, _ in air["points"]]

    def connect(self, ssid, key, *, bssid, **more):
        if more and not air["takes_channel"]:
            raise TypeError("extra keyword arguments given")
        assert self._active
        air["heard"].append(("connect", bssid, more.get("channel"), "static" if self._address else "dhcp"))
        for point in air["points"]:
            if (point[0], point[1], point[4]) == (ssid, bssid, key):
                self._joined = point

    def disconnect(self):
        self._joined = None

    def isconnected(self):
        return self._joined is not None

    def status(self, what=None):
        if what == "rssi":
            if self._joined is None:
                raise OSError("Wifi Not Connected")
            return self._joined[3]
        return 201

    def ifconfig(self, address=None):
        if address is None:
            return self._address or _LEASE
        self._address = None if address == "dhcp" else address
        return None
