"""The pictures of an evaluation, as PNG bytes."""

from typing import Any

from bot.charts import BLUE, GREEN, GREY, INK, figure_of, png

JUDGED = {
    "you over stock": "real_over_stock",
    "tuned over stock": "tuned_over_stock",
    "tuned over you": "tuned_over_real",
}


def pictures(found: dict[str, Any]) -> dict[str, bytes]:
    """Title -> picture."""
    drawn = {
        "Whose reply is more like yours, by a judge that knows nothing of the model": _judged(found["verifier"]),
        "General questions answered right, before and after": _forgetting(found["forgetting"]),
    }
    if found["style"]:
        drawn["How far the replies lie from yours in looks: 0 alike, 1 apart"] = _style(found["style"])
    return drawn


def _judged(verifier: dict[str, Any]) -> bytes:
    figure, axes = figure_of(8, 4.2)
    rows = [(f"{name}, {what}", verifier[key][kind]) for name, key in JUDGED.items()
            for kind, what in (("single", "one reply"), ("bundles", f"{verifier[key]['bundle']} replies"))
            if verifier[key][kind]["n"]]  # fmt: skip
    for place, (_, it) in enumerate(reversed(rows)):
        axes.barh(place, it["share"], color=GREEN if place % 2 else BLUE, height=0.6, alpha=0.85)
        axes.plot([it["low"], it["high"]], [place, place], color=INK, linewidth=2.2)
        axes.text(1.02, place, f"{it['share']:.0%}  (n = {it['n']})", va="center", fontsize=12, color=INK)
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
    axes.set_xticks(range(len(kinds)), list(kinds), fontsize=12)
    axes.set_ylim(0, 1.08)
    axes.set_ylabel("share right: grey stock, green tuned")
    return png(figure)


def _style(style: dict[str, Any]) -> bytes:
    figure, axes = figure_of(8, 1.2 + 0.42 * len(style))
    for place, it in enumerate(reversed(style.values())):
        axes.plot([it["tuned_distance"], it["stock_distance"]], [place, place], color=GREY, linewidth=1.5, zorder=1)
        axes.scatter(it["stock_distance"], place, color=GREY, s=70, zorder=2, label="stock" if not place else None)
        axes.scatter(it["tuned_distance"], place, color=GREEN, s=70, zorder=3, label="tuned" if not place else None)
    axes.set_yticks(range(len(style)), list(reversed(style)), fontsize=12)
    axes.set_xlim(-0.02, 1.02)
    axes.legend(frameon=False, fontsize=12)
    return png(figure)
