"""What `edgewise model search` leaves behind: report.html with its charts, the best model, its card with lineage."""

import base64
import json
import subprocess
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from model_export import budget, charts, injected
from model_export import model as models
from model_export.data import Series
from model_export.evaluate_measures import confusion
from model_export.model import Model
from model_export.search import Found, Outcome

_GIT_DEADLINE_S = 5


def write(outcome: Outcome, series: Series, folder: Path) -> Path:
    """Writes report.html, *.png and the model folder `folder`/model, and returns the path of the report."""
    folder.mkdir(parents=True, exist_ok=True)
    best = outcome.found[0]
    chosen = with_lineage(best, outcome)
    drawn = charts.write_all(outcome, folder)
    models.save(chosen, folder / "model")
    environment = Environment(loader=PackageLoader("model_export"), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("report.html").render(
        series=series,
        outcome=outcome,
        best=best,
        confusion=confusion(best.scores > best.model.threshold, best.truth),
        charts={name: base64.b64encode(data).decode() for name, data in drawn.items()},
        energies=[(board, best.cost.microjoules(board)) for board in budget.BOARDS.values()],
        fault_size=f"{injected.SIZE:g}",
        card=chosen.card_bytes().decode(),
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")  # as its head says, whatever the locale
    (folder / "search.json").write_text(json.dumps(summary(outcome), indent=2) + "\n", encoding="utf-8")
    return path


def with_lineage(best: Found, outcome: Outcome) -> Model:
    """The best model, its card saying how it was chosen and by which code."""
    chosen: dict[str, Any] = {
        "quality": best.quality,
        "measured_on": "labels" if outcome.labelled else "synthetic faults",
        "tried": len(outcome.found) + len(outcome.refused),
    }
    code = {"edgewise": version("edgewise"), "revision": code_revision()}
    return replace(best.model, card=best.model.card | {"search": chosen, "code": code})


def code_revision() -> str | None:
    """The commit this package runs from, with "+" after it when files differ; None when it is installed elsewhere."""
    here = Path(__file__).parent
    try:
        done = [
            subprocess.run(
                ["git", "-C", str(here), *command],
                capture_output=True,
                text=True,
                timeout=_GIT_DEADLINE_S,
                check=True,
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", "."])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return done[0] + ("+" if done[1] else "")


def summary(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON data, best first."""
    return {
        "quality_measured_on": "labels" if outcome.labelled else "synthetic faults",
        "found": [
            {
                "detector": one.candidate.detector,
                "settings": one.candidate.described,
                "features": list(one.candidate.tokens),
                "quality": one.quality,
                "false_alarms": one.false_alarms,
                "recall": one.recall,
                "recall_by_kind": one.recall_by_kind,
                "bytes_x64": one.bytes,
                "operations": one.cost.operations,
                "pareto": on_front,
            }
            for one, on_front in zip(outcome.found, outcome.on_front, strict=True)
        ],
        "refused": [
            {
                "detector": candidate.detector,
                "settings": candidate.described,
                "features": list(candidate.tokens),
                "reason": reason,
            }
            for candidate, reason in outcome.refused
        ],
    }
