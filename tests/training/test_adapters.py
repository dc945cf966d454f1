"""Versions on disk, and the recipes."""

from pathlib import Path

import pytest

from training import adapters
from training.engine import recipe


def test_versions_are_numbered_checked_and_whole(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "adapter_model.safetensors").write_bytes(b"weights")
    home = tmp_path / "adapters"
    for expected in (1, 2, 3):
        assert adapters.publish(home, files, {"created_at": 0}).number == expected
    (home / "0004").mkdir()  # what a killed process could leave has no manifest
    assert [v.name for v in adapters.versions(home)] == ["likeme-0001", "likeme-0002", "likeme-0003"]
    assert adapters.publish(home, files, {"created_at": 0}).number in (4, 5)
    assert not list(home.glob(".publishing-*"))


def test_recipes_are_read_whole_and_a_wrong_number_is_named(tmp_path: Path) -> None:
    from storage.errors import BadInput

    article = recipe.load("article")
    assert (article.rank, article.alpha, article.dropout, article.learning_rate) == (16, 32, 0.05, 2e-4)
    assert (article.epochs, article.examples_per_step, article.max_tokens) == (3, 16, 1024)
    assert article.targets == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert set(recipe.names()) == {"article", "fast", "qdora", "embedded"}
    wrong = tmp_path / "mine.toml"
    wrong.write_text((recipe.RECIPES / "fast.toml").read_text().replace("rank = 16", "rank = -1"))
    with pytest.raises(BadInput, match=r"mine\.toml, rank"):
        recipe.load(str(wrong))
    with pytest.raises(BadInput, match="no recipe 'x'"):
        recipe.load("x")
