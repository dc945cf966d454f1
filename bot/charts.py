"""Every picture the bot sends, as PNG bytes: large type, readable on a phone."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bot.statistics import Share
from bot.texts import say

BLUE, GREEN, GREY, INK = "#2a6fb0", "#3a8f4d", "#9aa0a8", "#1c1d20"
COLOURS = {"real": BLUE, "tuned": GREEN, "stock": GREY}  # by a reply's source


def loss_curve(events: Sequence[dict[str, Any]]) -> bytes:
    """Training loss over the steps, with the held-out losses of the voice and of the stock model."""
    figure, axes = figure_of(8, 4.6)
    train = [(event["step"], event["train_loss"]) for event in events if "train_loss" in event]
    smooth = [(event["step"], event["smooth_loss"]) for event in events if "smooth_loss" in event]
    valid = [(event["step"], event["valid_loss"]) for event in events if "valid_loss" in event]
    stock = next((event["stock_valid_loss"] for event in events if "stock_valid_loss" in event), None)
    if train:
        axes.plot(*zip(*train, strict=True), color=BLUE, alpha=0.25, linewidth=1.2)
    if smooth:
        axes.plot(*zip(*smooth, strict=True), color=BLUE, linewidth=2.4, label=say("curve_train"))
    if stock is not None:
        axes.axhline(stock, color=GREY, linewidth=2, linestyle="--", label=say("curve_stock", value=stock))
    if valid:
        label = say("curve_tuned", value=valid[-1][1])
        axes.plot(*zip(*valid, strict=True), color=GREEN, marker="o", markersize=8, linewidth=2, label=label)
    axes.set_xlabel(say("curve_steps"))
    axes.set_ylabel(say("curve_loss"))
    axes.legend(frameon=False, fontsize=12)
    return png(figure)


def standings(title: str, rows: Sequence[tuple[str, Share]]) -> bytes:
    """How often each kind of reply was picked as the owner's, with 95 % intervals."""
    figure, axes = figure_of(8, 1.4 + 0.9 * len(rows))
    colours = {say(f"source_{source}"): colour for source, colour in COLOURS.items()}
    for position, (name, share) in enumerate(reversed(rows)):
        colour = next((colour for what, colour in colours.items() if name.startswith(what)), BLUE)
        axes.barh(position, share.share, color=colour, height=0.55, alpha=0.85)
        axes.plot([share.low, share.high], [position, position], color=INK, linewidth=2.2)
        for end in (share.low, share.high):
            axes.plot([end, end], [position - 0.12, position + 0.12], color=INK, linewidth=2.2)
        text = say("standings_bar", share=share.share, picks=share.picks, n=share.n)
        axes.text(1.02, position, text, va="center", fontsize=13, color=INK)
    axes.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)], fontsize=14)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_title(title, loc="left", fontsize=15, color=INK, pad=12)
    return png(figure)


def figure_of(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty picture in the house's manner; sizes in inches."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=12)
    axes.xaxis.label.set_fontsize(13)
    axes.yaxis.label.set_fontsize(13)
    return figure, axes


def png(figure: Figure) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
