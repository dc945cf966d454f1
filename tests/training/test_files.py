"""Uploaded files on disk."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from training.files import Files


def test_one_set_uploaded_many_times_at_once_is_one_file(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with ThreadPoolExecutor(8) as uploads:
        kept = list(uploads.map(lambda number: files.keep(b"words\n" * 1000, "train.jsonl", "fine-tune"), range(100)))
    [file_id] = {file.id for file in kept}
    assert files.content(file_id) == b"words\n" * 1000
    assert len(list(tmp_path.iterdir())) == 2
