"""How a run of the demo ended, as a table for people and as plain values for machines."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from tools.demo.audit import Account


@dataclass(frozen=True)
class Outcome:
    """What a board ran before and after, beside its account."""

    account: Account
    model_before: str
    wakes: int

    @property
    def sound(self) -> bool:
        """Its records are all there, and it took the second model."""
        return self.account.sound and self.account.model.endswith(" 2.0.0")


def table(outcomes: Sequence[Outcome]) -> Table:
    """One line per board."""
    shown = Table(
        *("board", "made", "stored", "lost", "twice", "alerts", "in labels", "wire B", "JSON B", "ratio"),
        *("model before", "after", "wakes", "energy mJ"),
        box=None,
        header_style="bold",
    )
    for column in shown.columns[1:10]:
        column.justify = "right"
    for outcome in outcomes:
        board = outcome.account
        labels = "-" if board.alerts_in_labels is None else f"{board.alerts_in_labels}/{board.alerts}"
        shown.add_row(
            board.device,
            *(str(n) for n in (board.made, board.stored, board.lost, board.duplicated, board.alerts)),
            labels,
            f"{board.wire_bytes:.1f}",
            f"{board.json_bytes:.1f}",
            f"1/{board.json_bytes / board.wire_bytes:.1f}" if board.wire_bytes else "-",
            outcome.model_before,
            board.model,
            str(outcome.wakes),
            f"{board.energy_mj:.0f}",
            style="" if outcome.sound else "bold red",
        )
    return shown


def plain(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """The same for --json."""
    boards = [
        asdict(outcome.account) | {"model_before": outcome.model_before, "wakes": outcome.wakes, "sound": outcome.sound}
        for outcome in outcomes
    ]
    return {"sound": all(outcome.sound for outcome in outcomes), "seconds": round(seconds, 1), "boards": boards}
