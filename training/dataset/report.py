"""A manifest as lines for people."""

from collections.abc import Mapping
from typing import Any


def lines(manifest: Mapping[str, Any]) -> list[str]:
    """What came of the history, in plain sentences."""
    replies = manifest["reply_characters"]
    cap = manifest["options"]["max_pairs_per_chat"]
    out = [
        f"{manifest['messages']:,} messages in {manifest['chats']:,} chats, "
        f"{manifest['chats_with_pairs']:,} of them with replies of yours",
        f"{manifest['pairs_found']:,} reply pairs found"
        + (f", at most {cap} kept of a chat" if cap is not None else ""),
        f"{manifest['train']:,} examples to train on, {manifest['validation']:,} held out",
        f"reply length: median {replies['median']}, mean {replies['mean']}, longest {replies['longest']} "
        f"characters; {manifest['bursts']:,} replies in bursts",
    ]
    if manifest["pairs_left_out"]:
        out.append("pairs left out: " + _counts(manifest["pairs_left_out"]))
    if manifest["left_out"]:
        out.append("messages left out: " + _counts(manifest["left_out"]))
    out.append("masked: " + (_counts(manifest["masked"]) if manifest["masked"] else "nothing to mask found"))
    return [*out, f"content sha256 {manifest['sha256'][:16]}…"]


def _counts(counts: Mapping[str, int]) -> str:
    often_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n:,} {what}" for what, n in often_first)
