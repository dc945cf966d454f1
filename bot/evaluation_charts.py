"""The pictures of an evaluation, as PNG bytes."""

from typing import Any

from bot.charts import BLUE, GREEN, GREY, INK, figure_of, png
from bot.texts import named, say

JUDGED = ("real_over_stock", "tuned_over_stock", "tuned_over_real")


def pictures(found: dict[str, Any]) -> dict[str, bytes]:
    """Title -> picture."""
    drawn = {
        say("picture_judged"): _judged(found["verifier"]),
        say("picture_general"): _forgetting(found["forgetting"]),
    }
    if found["style"]:
        drawn[say("picture_style")] = _style(found["style"])
    return drawn


def _judged(verifier: dict[str, Any]) -> bytes:
    figure, axes = figure_of(8, 4.2)
    rows = [
        (say("picture_row", what=say(f"judged_{key}"), n=n), verifier[key][kind])
        for key in JUDGED
        for kind, n in (("single", 1), ("bundles", verifier[key]["bundle"]))
        if verifier[key][kind]["n"]
    ]
    for place, (_, it) in enumerate(reversed(rows)):
        axes.barh(place, it["share"], color=GREEN if place % 2 else BLUE, height=0.6, alpha=0.85)
        axes.plot([it["low"], it["high"]], [place, place], color=INK, linewidth=2.2)
        axes.text(1.02, place, say("picture_bar", **it), va="center", fontsize=12, color=INK)
    axes.axvline(0.5, color=GREY, linewidth=1.5, linestyle="--")
    axes.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)], fontsize=12)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    return png(figure)


def _forgetting(forgetting: dict[str, Any]) -> bytes:
    figure, axes = figure_of(8, 4)
    kinds = forgetting["kinds"]
    for place, (before, now, n) in enumerate(kinds.values()):
        for shift, right, colour in ((-0.2, before, GREY), (0.2, now, GREEN)):
            axes.bar(place + shift, right / n, width=0.38, color=colour, alpha=0.85)
            axes.text(place + shift, right / n + 0.01, f"{right}/{n}", ha="center", fontsize=11, color=INK)
    axes.set_xticks(range(len(kinds)), [named("general", kind) for kind in kinds], fontsize=12)
    axes.set_ylim(0, 1.08)
    axes.set_ylabel(say("picture_right"))
    return png(figure)


def _style(style: dict[str, Any]) -> bytes:
    figure, axes = figure_of(8, 1.2 + 0.42 * len(style))
    for place, it in enumerate(reversed(style.values())):
        axes.plot([it["tuned_distance"], it["stock_distance"]], [place, place], color=GREY, linewidth=1.5, zorder=1)
        axes.scatter(
            it["stock_distance"], place, color=GREY, s=70, zorder=2, label=say("page_stock") if not place else None
        )
        axes.scatter(
            it["tuned_distance"], place, color=GREEN, s=70, zorder=3, label=say("page_tuned") if not place else None
        )
    axes.set_yticks(range(len(style)), [named("style", name) for name in reversed(style)], fontsize=12)
    axes.set_xlim(-0.02, 1.02)
    axes.legend(frameon=False, fontsize=12)
    return png(figure)
