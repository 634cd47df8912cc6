"""Protocol version 1: codes, topics, limits and reasons, each stated once.

Runs on MicroPython and CPython. The fields of each message are in messages.py, the prose in PROTOCOL.md.
"""

PROTOCOL_VERSION = 1

# Topics: ew/1/<device>/<kind>. NATS turns "/" into "." so a device id may hold neither "." nor a wildcard.
TOPIC_PREFIX = "ew/1/"
KIND_UP = "up"  # device to cloud, QoS 1
KIND_ACK = "ack"  # cloud to device, retained
KIND_WANT = "want"  # cloud to device, retained
KIND_DO = "do"  # cloud to device, commands, chunks and answers
KIND_STATE = "state"  # retained birth and will: b"1" online, b"0" gone

VERB_RAW_WINDOW = "raw-window"  # DO: record the next windows sample by sample

# Message codes, device to cloud. Codes 2 to 6 name the streams whose records carry (epoch, seq).
HELLO = 1
READINGS = 2
EVENT = 3
QUERY = 4
HEALTH = 5
UPDATE = 6
FETCH = 7
# Message codes, cloud to device.
ACK = 32
WANT = 33
CHUNK = 34
ANSWER = 35
DO = 36

# Record streams, most important first. Every list with one entry per stream has this order.
STREAMS = (EVENT, QUERY, UPDATE, HEALTH, READINGS)
STREAM_NAMES = ("event", "query", "update", "health", "reading")

# Limits. A receiver refuses what exceeds them; a sender never makes it.
MAX_UP_BYTES = 4096
MAX_DOWN_BYTES = 8192
MAX_DEVICE_ID = 32
MAX_CHANNELS = 16
MAX_ROWS = 240  # rows of one READINGS frame: the encoder's scratch of 4 bytes a row stays below 1 kB
MAX_FEATURES = 128
MAX_DEPTH = 4  # nesting of a message, the message itself included
MAX_FLOORS = 8  # epochs named by one HELLO
MAX_ACKS = 4  # epochs named by one ACK
MAX_EPOCH = 0x3FFFFFFF  # an ACK or a configuration may name: behind one near the end of the numbers comes no other
MAX_U32 = 0xFFFFFFFF
MAX_TIME_MS = (1 << 48) - 1
MAX_FLOAT32 = 3.4028235e38  # a board reads this as its greatest float, a wider one as a little more than that
MAX_MODEL_NAME = 32
MAX_VERSION = 32
MAX_ARCH = 16
MAX_SETTINGS = 32  # keys of a configuration
MAX_TEXT = 128  # characters of a setting or an argument
MAX_CHUNK_BYTES = 4096  # one flash checkpoint of a download
MAX_STATEMENTS = 4  # of publishers, in one WANT
MAX_STATEMENT_BYTES = 256
MAX_ARTIFACT_BYTES = 20 + 72 + 2048 + 8192 + 262144  # header, signature, manifest, golden vectors, payload

# ACK flags
ACK_NEED_KEY = 1  # the base of a READINGS frame is not known: send it again as a key frame
ACK_SAY_HELLO = 2  # the cloud does not know this epoch: begin the next session with HELLO

# HELLO formats (bit mask) and the names used in manifests
FORMAT_NATIVE = 1
FORMAT_BLOB = 2
FORMAT_NAMES = {FORMAT_NATIVE: "native", FORMAT_BLOB: "blob"}

# Why a wake happened
WAKE_COLD = 0
WAKE_TIMER = 1
WAKE_PIN = 2
WAKE_TOUCH = 3
WAKE_ULP = 4
WAKE_WATCHDOG = 5
WAKE_BROWNOUT = 6
WAKE_SOFT = 7
WAKE_NAMES = ("cold", "timer", "pin", "touch", "ulp", "watchdog", "brownout", "soft")

# EVENT kinds
EVENT_ANOMALY = 1
EVENT_CLEARED = 2
EVENT_BOOT_LOOP = 3
EVENT_NAMES = {EVENT_ANOMALY: "anomaly", EVENT_CLEARED: "cleared", EVENT_BOOT_LOOP: "boot loop"}

# Routing decisions and their reasons
ROUTE_DEVICE = 0
ROUTE_FOG = 1
ROUTE_CLOUD = 2
ROUTE_DEFER = 3
ROUTE_DROP = 4
ROUTE_NAMES = ("device", "fog", "cloud", "defer", "drop")

WHY_CLEAR = 0  # the score is outside the margin: the board is sure
WHY_MARGIN = 1  # the score is within the margin of the threshold
WHY_ENTROPY = 2
WHY_SENSITIVE = 3  # data of this board may not leave its tier
WHY_DEADLINE = 4
WHY_BATTERY = 5
WHY_LINK = 6
WHY_BREAKER = 7
WHY_NO_MODEL = 8  # scored by the built-in SAFE model
WHY_SHADOW_ANOMALY = 9  # the shadow model says anomaly, the active one did not
WHY_SHADOW_NORMAL = 10  # the shadow model says normal, the active one did not
WHY_NAMES = (
    "clear",
    "margin",
    "entropy",
    "sensitive",
    "deadline",
    "battery",
    "link",
    "breaker",
    "no model",
    "shadow says anomaly",
    "shadow says normal",
)

# What became of the windows of a HEALTH period, in the order of HEALTH.routes: the first five are the ROUTE_* that came
# true, of each window one of the first six.
OUTCOME_UNANSWERED = 5  # fog or cloud was asked, and said nothing usable in time
OUTCOME_STRAY = 6  # answers that nobody waited for: late, twice, or to another question
OUTCOME_FALLBACK = 7  # windows on which the previous model or SAFE had the last word
OUTCOME_NAMES = ROUTE_NAMES + ("unanswered", "stray answers", "fallback")

# What a higher tier answered to a QUERY
VERDICT_NORMAL = 0
VERDICT_ANOMALY = 1
VERDICT_UNKNOWN = 2
VERDICT_NAMES = ("normal", "anomaly", "unknown")

# States of a model update (the table and its theory are in device/update.py)
UPDATE_IDLE = 0
UPDATE_OFFER = 1
UPDATE_DOWNLOAD = 2
UPDATE_VERIFY = 3
UPDATE_SELFTEST = 4
UPDATE_ARM = 5
UPDATE_TRIAL = 6
UPDATE_COMMIT = 7
UPDATE_ROLLBACK = 8
UPDATE_REFUSED = 9
UPDATE_PATCH = 10
# What becomes of a shadow model (device/shadow.py)
UPDATE_SHADOW = 11  # it scores beside the active model
UPDATE_SHADOW_ENDED = 12  # it does not, or no more
UPDATE_NAMES = (
    "idle",
    "offer",
    "download",
    "verify",
    "selftest",
    "arm",
    "trial",
    "committed",
    "rolled back",
    "refused",
    "patch",
    "shadow",
    "shadow ended",
)

# Why an update was refused or rolled back
REASON_OK = 0
REASON_BAD_FORMAT = 1  # not an artifact, or a length lies
REASON_BAD_SIGNATURE = 2
REASON_UNKNOWN_KEY = 3
REASON_CUT = 4  # shorter or longer than offered
REASON_BAD_DIGEST = 5
REASON_WRONG_ARCH = 6
REASON_WRONG_ABI = 7
REASON_WRONG_FORMAT = 8
REASON_WRONG_CLASS = 9
REASON_SCHEMA_MISMATCH = 10
REASON_OLD_SEQUENCE = 11  # anti-rollback counter
REASON_EXPIRED = 12
REASON_CONTRACT = 13  # needs a newer contract than this firmware has
REASON_NO_SPACE = 14
REASON_LOAD_FAILED = 15
REASON_SELFTEST_FAILED = 16
REASON_TRIAL_FAILED = 17
REASON_KNOWN_BAD = 18  # this digest was rolled back before
REASON_NOT_SERVED = 19  # the cloud stopped sending the artifact
REASON_FLASH = 20  # flash refused a write
REASON_MISMATCH = 21  # manifest disagrees with the offer
REASON_STALE_OFFER = 22  # a WANT older than one already seen
REASON_REVOKED_KEY = 23
REASON_RETIRED_KEY = 24  # it has handed over, and its time is over
REASON_OLD_STATEMENT = 25  # a statement on keys whose number does not rise
REASON_OTHERS_KEY = 26  # a statement on the key of another publisher
REASON_NO_MEMORY = 27  # more RAM than the board has free
REASON_BAD_PATCH = 28  # it does not make the artifact, which is fetched whole
REASON_LOW_BATTERY = 29  # the download waits for charge
REASON_NOT_NOW = 30  # the download waits for the hours meant for updates
REASON_NAMES = (
    "ok",
    "bad format",
    "bad signature",
    "unknown key",
    "cut",
    "bad digest",
    "wrong arch",
    "wrong abi",
    "wrong format",
    "wrong class",
    "feature schema mismatch",
    "old sequence",
    "expired",
    "contract too new",
    "no space",
    "load failed",
    "self-test failed",
    "trial failed",
    "known bad",
    "not served",
    "flash write failed",
    "manifest mismatch",
    "stale offer",
    "revoked key",
    "retired key",
    "old statement",
    "key of another publisher",
    "no memory",
    "bad patch",
    "low battery",
    "outside update hours",
)


# Classes of faults a board meets and counts; HEALTH reports them as [code, count]
FAULT_OTHER = 0  # an exception of none of the classes below
FAULT_RADIO = 1  # the radio did not come up
FAULT_NAME = 2  # the broker's name was not resolved
FAULT_CONNECT = 3  # the connection (TCP or TLS) was refused or never opened
FAULT_LOGIN = 4  # the broker refused the session
FAULT_TIMEOUT = 5  # an open connection fell silent past its deadline
FAULT_CLOSED = 6  # the broker closed the connection
FAULT_PROTOCOL = 7  # the broker broke MQTT
FAULT_DOWNLINK = 8  # a message for this board was oversized or malformed
FAULT_SENSOR = 9
FAULT_MODEL = 10  # the active model failed to score
FAULT_FLASH = 11
FAULT_MEMORY = 12
FAULT_CLOCK = 13  # the clock jumped
FAULT_CONFIG = 14  # a configuration document was refused
FAULT_RTC = 15  # RTC memory was torn or foreign and was rebuilt
FAULT_NAMES = (
    "other",
    "radio",
    "name",
    "connect",
    "login",
    "timeout",
    "closed",
    "protocol",
    "downlink",
    "sensor",
    "model",
    "flash",
    "memory",
    "clock",
    "config",
    "rtc memory",
)


class WireError(Exception):
    """A message or topic that breaks the contract; `code` is one of the BAD_* values."""

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return BAD_NAMES[self.code] + (": " + self.detail if self.detail else "")


BAD_CUT = 0
BAD_SIZE = 1
BAD_TYPE = 2
BAD_RANGE = 3
BAD_DEPTH = 4
BAD_CODE = 5
BAD_TRAILING = 6
BAD_DEVICE = 7
BAD_TOPIC = 8
BAD_BODY = 9
BAD_NAMES = (
    "cut short",
    "wrong size",
    "wrong type",
    "out of range",
    "nested too deep",
    "unknown code",
    "bytes after the end",
    "unknown device",
    "bad topic",
    "undecodable body",
)


def valid_device_id(device: str) -> bool:
    """True for 1 to 32 characters of a-z, 0-9 and "-"."""
    if not 1 <= len(device) <= MAX_DEVICE_ID:
        return False
    return all("a" <= c <= "z" or "0" <= c <= "9" or c == "-" for c in device)


def topic(device: str, kind: str) -> str:
    """The topic of one device and kind, such as `ew/1/pump-3/up`."""
    return TOPIC_PREFIX + device + "/" + kind


def split_topic(name: str) -> "tuple[str, str]":
    """(device, kind) of a topic; raises WireError(BAD_TOPIC)."""
    if name.startswith(TOPIC_PREFIX):
        parts = name[len(TOPIC_PREFIX) :].split("/")
        if len(parts) == 2 and valid_device_id(parts[0]):
            return parts[0], parts[1]
    raise WireError(BAD_TOPIC, name[:64])
