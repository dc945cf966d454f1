"""The tables of bench/voice.py, from what was judged."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from voice_worker import MAIN, OTHERS

RESAMPLES = 2000


def table(judged: dict[str, Any]) -> str:
    """All of it."""
    lines = [
        "python bench/voice.py: SmolLM2-135M trained and drawn on one card, judged by what knows nothing of the model:",
        "a letter verifier (character 3-5-grams, the owner against others), a fresh classifier that is trained to tell",
        "real from tuned (AUC, 0.5 is the aim), an embedding for the fit of a reply to its prompt. 95 % intervals.",
        "What the owner reaches is the ceiling of the first, the floor of the second. Seconds: beside other processes.",
        "Of four drafts of a prompt, first: the first as it comes; most typical: the one nearest to all; suits most:",
        "the one that its prompt makes likelier by the most; as shown: the one of the first two that suits more: so a",
        "card puts first.",
    ]
    for corpus in (MAIN, *OTHERS):
        if f"{corpus}.owner" in judged:
            lines += ["", *_history(corpus, judged)]
    return "\n".join(lines)


def _history(corpus: str, judged: dict[str, Any]) -> list[str]:
    own = judged[f"{corpus}.owner"]
    mine = {name: it for name, it in judged.items() if name.startswith(f"{corpus}.")}
    lines = [
        f"{corpus}: the owner himself",
        f"  against his older replies   AUC {_number(own['auc_older'])}",
        f"  against his newest trained  AUC {_number(own['auc_newest'])}",
        f"  fit of his own replies      {_number(own['fit'])}; 0.5 is chance",
        f"  the verifier on unseen text AUC {own['quality']:.3f}" if own["quality"] else "",
    ]
    voices = [it for name, it in mine.items() if name.endswith(".voice")]
    drawn = {name: it for name, it in mine.items() if "tuned_over_stock" in it}
    stock = {tuple(it["setting"]): it for name, it in mine.items() if "real_over_stock" in it}
    lines += ["", *_stock(stock)]
    if voices:
        lines += ["", *_losses(voices)]
    if not drawn:
        return [*lines, "  no replies of a tuned voice were drawn"]
    best = _best(list(drawn.values()))
    lines += ["", *_seeds(best, drawn, stock)]
    lines += ["", *_ways(f"{corpus}: what each way of drawing buys ({best}, seed 0)", _of(drawn, best, 0), own)]
    return lines


def _stock(stock: dict[Any, Any]) -> list[str]:
    lines = ["  the stock model  temp  top-p  real over it                          AUC, real against it   fit    cut"]
    for (temperature, top_p), it in sorted(stock.items()):
        lines.append(
            f"  {'':15}  {temperature:4.2f}  {top_p:5.2f}  {_share(it['real_over_stock']):36}  {_number(it['auc'])}"
            f"    {it['fit']['value']:.3f}  {it['cut']:.0%}"
        )
    return lines


def _best(drawn: Sequence[dict[str, Any]]) -> str:
    """The recipe that was drawn the most."""
    recipes = [it["recipe"] for it in drawn]
    return max(dict.fromkeys(recipes), key=recipes.count)


def _of(drawn: dict[str, Any], recipe: str, seed: int) -> dict[str, Any]:
    return {name: it for name, it in drawn.items() if (it["recipe"], it["seed"]) == (recipe, seed)}


def _losses(voices: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["  recipe, seed                   pairs  steps  seconds  loss (stock)    general questions right"]
    for it in sorted(voices, key=lambda it: (it["recipe"], it["seed"])):
        g = it["forgetting"]
        lines.append(
            f"  {it['recipe'] + ', ' + str(it['seed']):29} {it['examples']:6,} {it['steps']:6,} {it['seconds']:8.0f}"
            f"  {it['loss']:.3f} ({it['stock_loss']:.3f})  {g['tuned']['picks']} of {g['tuned']['n']}, stock "
            f"{g['stock']['picks']}: lost {g['lost']}, won {g['won']}, p = {g['p']:.1g}"
        )
    return lines


def _seeds(recipe: str, drawn: dict[str, Any], stock: dict[Any, Any]) -> list[str]:
    """The article's table for each way that every seed was drawn in."""
    lines = []
    seeds = sorted({it["seed"] for it in drawn.values() if it["recipe"] == recipe})
    ways: dict[tuple[Any, str], list[dict[str, Any]]] = {}
    for name, it in drawn.items():
        if it["recipe"] == recipe:
            ways.setdefault((tuple(it["setting"]), name.rsplit(".", 1)[1]), []).append(it)
    for (setting, chooser), its in sorted(ways.items()):
        if len(its) < len(seeds):
            continue
        its = sorted(its, key=lambda it: it["seed"])
        of_stock = stock[setting]
        lines += [
            f"  temperature {setting[0]}, top-p {setting[1]}, {chooser}; {recipe}, seeds {', '.join(map(str, seeds))}",
            f"    tuned over stock    {_together(its, 'tuned_over_stock')}",
            f"    … in bundles of 16  {'; '.join(_share(it['bundles']) for it in its)}",
            f"    real over stock     {_share(of_stock['real_over_stock'])}: the ceiling",
            f"    tuned over real     {_together(its, 'tuned_over_real')}",
            f"    which is him?       {'; '.join(_three(it) for it in its)}",
            f"    real against tuned  AUC {'; '.join(_number(it['auc']) for it in its)}; "
            f"against stock {_number(of_stock['auc'])}",
            f"    fit                 {'; '.join(_number(it['fit']) for it in its)}; stock {_number(of_stock['fit'])}",
            f"    reciting 8+ words   {'; '.join(_share(it['reciting']['reciting']) for it in its)}",
            f"    secrets             {'; '.join(_share(it['secrets']) for it in its)}",
        ]
    return lines


def _ways(title: str, drawn: dict[str, Any], own: dict[str, Any]) -> list[str]:
    lines = [
        title,
        "  temp  top-p  draft               over stock  over real  him?  AUC    fit, his  words  pairs  loops  recites",
    ]
    for name, it in sorted(drawn.items(), key=lambda one: (one[1]["recipe"], one[1]["setting"], one[0])):
        fit = (it["fit"]["value"] - 0.5) / (own["fit"]["value"] - 0.5)
        label = name.rsplit(".", 1)[1]
        lines.append(
            f"  {it['setting'][0]:4.2f}  {it['setting'][1]:5.2f}  {label:18}  {it['tuned_over_stock']['share']:10.1%}"
            f"  {it['tuned_over_real']['share']:9.1%}  {it['three'][1]['share']:4.0%}  {it['auc']['value']:.3f}"
            f"  {fit:8.0%}  {it['words']:5.0f}  {it['variety']['distinct_2']:5.2f}  {it['variety']['looping']:5.1%}"
            f"  {it['reciting']['reciting']['share']:6.1%}"
        )
    words = f"{own['words']:5.0f}  {own['variety']['distinct_2']:5.2f}  {own['variety']['looping']:5.1%}"
    recites = f"{own['reciting']['reciting']['share']:6.1%}"
    return [*lines, f"  {'himself':>13}  {'':18}  {'':10}  {'':9}  {'':4}  {'':5}  {1:8.0%}  {words}  {recites}"]


def _together(its: Sequence[dict[str, Any]], what: str) -> str:
    """The mean over the seeds with its interval, prompts drawn again; then each seed's share."""
    each = np.array([it[what]["each"] for it in its])  # (seeds, prompts)
    draw = np.random.default_rng(0)
    n = each.shape[1]
    again = [each[:, draw.integers(n, size=n)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(again, [0.025, 0.975])
    seeds = ", ".join(f"{it[what]['share']:.1%}" for it in its)
    return f"{each.mean():.1%} ({low:.1%}–{high:.1%}; n = {n} prompts; by seed {seeds})"


def _three(it: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {share['share']:.0%} ({share['low']:.0%}–{share['high']:.0%})"
        for name, share in zip(("real", "tuned", "stock"), it["three"], strict=True)
    )


def _share(it: dict[str, Any]) -> str:
    return f"{it['share']:.1%} ({it['picks']} of {it['n']}; {it['low']:.1%}–{it['high']:.1%})"


def _number(it: dict[str, Any] | None) -> str:
    return f"{it['value']:.3f} ({it['low']:.3f}–{it['high']:.3f})" if it else "–"
