"""What the board remembers of its shadow model: one A/B record, `models/shadow`, which says what the shadow slot holds.

It is apart from the pointer (slots.py) and of another layout, so that neither can be taken for the other: what decides
is in the pointer alone, and nothing that happens to a shadow writes there.
"""

import struct

from micropython import const

from contract.wire import REASON_OK
from device.records import Record
from device.slots import MODEL_BYTES, pack_model, unpack_model
from device.update_record import OFFERED_BYTES, Offer, pack_offered, unpack_offered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from device.files import Files

NONE = const(0)
FETCH = const(1)
CHECK = const(2)
RUN = const(3)
ENDED = const(4)

_MARK = const(0x53)  # where the pointer has its layout version: "S", and this record's own layout behind it
_LAYOUT = const(1)
# mark, layout, state, reason, attempts, stalls, crashes, started, due, config version
_FIELDS = "<BBBBBBBBBI"
_FIELD_BYTES = struct.calcsize(_FIELDS)
_MODEL_AT = _FIELD_BYTES + OFFERED_BYTES
_BAD_AT = _MODEL_AT + MODEL_BYTES
_SHA8_BYTES = const(8)
_MAX_BAD = const(8)


class ShadowRecord:
    """The record's fields; store() after changing them.

    state: NONE to ENDED; reason REASON_*: why it ended; attempts: boots that began CHECK; stalls: sessions in which the
    cloud sent nothing; crashes: boots in a row after a wake that died while the shadow ran; started: the slot is not
    empty; due: the state is still to be reported; config_version: of the WANT that made the offer; offer: Offer or
    None; model: slots.Installed once it was verified; bad: sha8 of shadows never to be taken again, newest last.
    """

    def __init__(self, fs: "Files", root: str) -> None:
        self._record = Record(fs, root + "/models/shadow")
        data = self._record.load()
        if data is None or len(data) < _FIELD_BYTES or data[0] != _MARK or data[1] != _LAYOUT:
            data = struct.pack(_FIELDS, _MARK, _LAYOUT, NONE, REASON_OK, 0, 0, 0, 0, 0, 0)
        (
            _,
            _,
            self.state,
            self.reason,
            self.attempts,
            self.stalls,
            self.crashes,
            self.started,
            self.due,
            self.config_version,
        ) = struct.unpack_from(_FIELDS, data)
        self.offer = None
        self.model = None
        if len(data) >= _BAD_AT:
            self.offer = Offer(*unpack_offered(data, _FIELD_BYTES))
            self.model = unpack_model(data, _MODEL_AT)
        bad = data[_BAD_AT:]
        self.bad = [bad[i : i + _SHA8_BYTES] for i in range(0, len(bad), _SHA8_BYTES)]

    def condemn(self) -> None:
        """Puts the offer on the list of what is never taken again; store() has to follow."""
        sha8 = self.offer.sha8
        self.bad = [bad for bad in self.bad if bad != sha8][1 - _MAX_BAD :] + [sha8]

    def store(self) -> None:
        """Writes the fields; raises OSError when flash refuses."""
        data = struct.pack(
            _FIELDS,
            _MARK,
            _LAYOUT,
            self.state,
            self.reason,
            self.attempts,
            self.stalls,
            self.crashes,
            self.started,
            self.due,
            self.config_version,
        )
        if self.offer is not None:
            data += pack_offered(self.offer) + pack_model(self.model) + b"".join(self.bad)
        self._record.store(data)
