"""The charts of a report, drawn by matplotlib without a display. The only importer of matplotlib."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from model_export.errors import ModelError
from model_export.search import Found, Outcome

_SIZE_INCHES = (6.4, 4.0)
_DPI = 110


def new_figure(rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """(figure, axes); raises ModelError(unsupported) where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ModelError("unsupported", "charts need matplotlib: run `make setup`") from None
    figure = Figure(figsize=(_SIZE_INCHES[0] * columns, _SIZE_INCHES[1] * rows), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns)


def pareto(outcome: Outcome) -> Any:
    """Quality against bytes and against operations; rings mark what nothing else beats."""
    figure, axes = new_figure(columns=2)
    names = sorted({one.candidate.detector for one in outcome.found})
    for axis, label, costs in (
        (axes[0], "native module, bytes", [one.bytes for one in outcome.found]),
        (axes[1], "operations per score", [one.cost.operations for one in outcome.found]),
    ):
        for i, name in enumerate(names):
            rows = [k for k, one in enumerate(outcome.found) if one.candidate.detector == name]
            axis.plot(
                [costs[k] for k in rows],
                [outcome.found[k].quality for k in rows],
                "os^D"[i // 10 % 4],
                color=f"C{i % 10}",
                label=name,
            )
        front = [k for k, on_front in enumerate(outcome.on_front) if on_front]
        axis.plot([costs[k] for k in front], [outcome.found[k].quality for k in front], "o", mfc="none", mec="k", ms=11)
        axis.set(
            xscale="log", xlabel=label, ylabel="average precision" if outcome.labelled else "recall less false alarms"
        )
        axis.xaxis.set_minor_formatter("")  # labels of minor ticks run into each other
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=7, ncols=2)
    return figure


def roc(found: Found) -> Any:
    figure, axis = new_figure()
    false, true, _ = roc_curve(found.truth, found.scores)
    axis.plot(false, true)
    axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axis.plot([found.false_alarms], [found.recall], "o", label="the threshold")
    axis.set(xlabel="false-alarm rate", ylabel="recall", title="ROC")
    axis.legend()
    return figure


def precision_recall(found: Found) -> Any:
    figure, axis = new_figure()
    precision, recall, _ = precision_recall_curve(found.truth, found.scores)
    axis.plot(recall, precision)
    axis.axhline(float(found.truth.mean()), color="0.7", linewidth=1, label="share of anomalies")
    axis.set(xlabel="recall", ylabel="precision", title="Precision and recall", ylim=(0, 1.03))
    axis.legend()
    return figure


def histogram(found: Found) -> Any:
    """Scores of both classes; a score axis that holds far anomalies is logarithmic."""
    figure, axis = new_figure()
    low, high = float(found.scores.min()), float(found.scores.max())
    logarithmic = low > 0 and high / low > 100
    bins = np.geomspace(low, high, 50) if logarithmic else np.linspace(low, high, 50)
    axis.hist([found.scores[~found.truth], found.scores[found.truth]], bins=bins, label=["normal", "anomalous"])
    axis.axvline(found.model.threshold, color="k", linewidth=1, label="threshold")
    axis.set(xscale="log" if logarithmic else "linear", yscale="log", xlabel="score", ylabel="windows", title="Scores")
    axis.legend()
    return figure


def png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def write_all(outcome: Outcome, folder: Path) -> dict[str, bytes]:
    """Writes each chart as NAME.png and returns them by name."""
    best = outcome.found[0]
    drawn = {
        "pareto": png(pareto(outcome)),
        "roc": png(roc(best)),
        "precision-recall": png(precision_recall(best)),
        "scores": png(histogram(best)),
    }
    for name, data in drawn.items():
        (folder / f"{name}.png").write_bytes(data)
    return drawn
