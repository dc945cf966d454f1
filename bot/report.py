"""The page that a demo run leaves behind: one self-contained HTML file."""

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jinja2

from bot.writing import write_private


@dataclass(frozen=True, slots=True)
class Line:
    """One turn of a sample's context."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A held-out prompt with the three replies to it."""

    context: Sequence[Line]
    real: str
    tuned: str
    stock: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How often one kind of reply was picked as the owner's, with its Wilson 95 % interval (0..1)."""

    name: str
    picks: int
    n: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Report:
    """All that the page shows. Charts are PNG bytes."""

    title: str
    subtitle: str
    figures: Sequence[tuple[str, str]]
    import_lines: Sequence[str]
    dataset_lines: Sequence[str]
    training_line: str
    loss_curve: bytes
    samples: Sequence[Sample]
    quiz_line: str
    standings: Sequence[Standing]
    standings_chart: bytes


def write(report: Report, path: Path) -> None:
    """Write the page to `path`. StorageError where the disk does not take it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bot", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    fields = asdict(report)
    for chart in ("loss_curve", "standings_chart"):
        fields[chart] = base64.b64encode(fields[chart]).decode()
    page = environment.get_template("report.html.j2").render(fields)
    write_private(path, page.encode())
