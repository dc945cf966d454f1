"""`make audit`: every pinned version looked up among the known vulnerabilities (pip-audit).

Exits 1 when one is known. Where the service can't be reached it says so, and that nothing was audited: no word is not
a good word.
"""

import json
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).resolve().parents[1] / "constraints.txt"
COMMAND = ("-m", "pip_audit", "-r", str(PINS), "--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json")
SECONDS = 300


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> int:
    """Ask, and say what came of it."""
    try:
        done = subprocess.run([sys.executable, *COMMAND], capture_output=True, text=True, timeout=SECONDS, check=False)
        found = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        found = []
    audited = [one for one in found if "vulns" in one]
    weak = [one for one in audited if one["vulns"]]
    for one in weak:
        fixed = sorted({version for vuln in one["vulns"] for version in vuln["fix_versions"]})
        names = ", ".join(vuln["id"] for vuln in one["vulns"])
        _say(f"{one['name']} {one['version']}: {names}; fixed in {', '.join(fixed) or 'no version yet'}")
    if not audited:
        _say("NOT AUDITED: the vulnerability service of pip-audit can't be reached from here.")
        return 0
    _say(f"{len(audited)} of {len(found)} pinned versions audited, {len(weak)} with known vulnerabilities.")
    return 1 if weak else 0


if __name__ == "__main__":
    sys.exit(main())
