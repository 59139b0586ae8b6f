"""What the runs that are recorded today show, claim by claim, is frozen: no change of code may change it unseen."""

import importlib.util
import json
import subprocess
import sys

from bcebook.paths import REPOSITORY


def test_every_finding_on_the_frozen_list_of_recorded_runs_is_what_it_was():
    """On another machine than the one that wrote the list, linear algebra may differ in its last digits. After a change
    that means to change a finding: `python ci/frozen.py findings --write`, and the change is named in its commit."""
    script = REPOSITORY / "ci" / "frozen.py"
    # in a process of its own: what other tests plant for a run's key stays in memory
    found = subprocess.run([sys.executable, script, "findings", "--close"], capture_output=True, text=True)
    assert found.returncode == 0 and "findings are the same" in found.stdout, found.stdout + found.stderr
    spec = importlib.util.spec_from_file_location("frozen", script)
    frozen = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(frozen)
    before = json.loads(frozen.FILE.read_text())
    assert len(before["keys"]) >= 147 and len(before["findings"]) > 80
    # the comparison sees a digit, a verdict and a claim that is gone
    name, value = next((name, each) for name, each in before["findings"].items() if isinstance(each[2], float) and each[2])
    changed = before["findings"] | {name: [*value[:2], value[2] * (1 + 1e-6), *value[3:]]}
    assert frozen.differences(before["findings"], changed, frozen.CLOSE) and frozen.differences(changed, {}, 1.0)
