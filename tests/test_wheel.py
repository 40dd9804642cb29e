"""The library installed from its wheel, outside of the repository: weights and tables are there, and scripts run."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

NETWORK = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from lib import diagnose_perturbation

model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
pictures, labels = torch.rand(64, 1, 8, 8), torch.randint(0, 10, (64,))
loader = DataLoader(TensorDataset(pictures, labels), batch_size=32)
report = diagnose_perturbation(model, nn.CrossEntropyLoss(), loader, "adc", severity=4)
print(report)
report.save("report.html")
"""
GATE = """
import torch
from torch import nn
from lib import diagnose_gate

gate, body = nn.Sequential(nn.Linear(8, 4), nn.Sigmoid()), nn.Linear(8, 4)
inputs = [(torch.randn(32, 8), torch.randint(0, 4, (32,))) for _ in range(8)]
loss = lambda batch: nn.functional.cross_entropy(body(batch[0]) * gate(batch[0]), batch[1])
print(diagnose_gate(loss, prompts=body, gate=gate, inputs=inputs))
"""
WEIGHTS = """
from lib import load

print([load(name).name for name in ("miniclip", "photoclip")])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs, the libraries that it needs apart."""
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: building writes into the source.
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("there is no repository here, so what belongs to the wheel cannot be told from what lies beside it")
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith(("lib/", "paper/")) or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    plain = ["--no-deps", "--no-index", "--disable-pip-version-check", "--quiet"]
    pip = [sys.executable, "-m", "pip"]
    build = [*pip, "wheel", str(source), *plain, "--no-build-isolation", "--wheel-dir", str(folder)]
    made = subprocess.run(build, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", str(wheel), *plain, "--target", str(folder / "site")], check=True)
    return folder


def _run(script: str, installed: Path, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = place / "script.py"
    path.write_text(script)
    # What the folder of the wheel holds comes before the repository, which this environment has as well.
    surroundings = {**os.environ, "PYTHONPATH": str(installed / "site"), "OMP_NUM_THREADS": "1"}
    check = "import lib, sys; assert lib.__file__.startswith(sys.argv[1]), lib.__file__"
    subprocess.run([sys.executable, "-c", check, str(installed / "site")], cwd=place, env=surroundings, check=True)
    command = [sys.executable, *(words or [str(path)])]
    return subprocess.run(command, cwd=place, env=surroundings, capture_output=True, text=True)


def test_the_wheel_is_small_and_knows_no_place_of_its_own(installed):
    (wheel,) = installed.glob("*.whl")
    assert wheel.stat().st_size < 10 * 2**20
    with zipfile.ZipFile(wheel) as held:
        names = held.namelist()
        text = "".join(held.read(name).decode() for name in names if name.startswith("lib/") and name.endswith(".py"))
    assert {"lib/diagnose/known.csv", "lib/prompts/weights/miniclip.safetensors"} <= set(names)
    assert str(ROOT) not in text


@pytest.mark.parametrize(
    ("script", "words"),
    [(NETWORK, "ADC discretization: at 4 bits it"), (GATE, "The gate's gradient is"), (WEIGHTS, "photoclip")],
    ids=["network", "gate", "weights"],
)
def test_a_script_of_ones_own(installed, tmp_path, script, words):
    assert len(script.strip().splitlines()) <= 15
    run = _run(script, installed, tmp_path)
    assert run.returncode == 0, run.stderr
    assert words in run.stdout


def test_the_command_from_the_wheel(installed, tmp_path):
    made = "\n".join(NETWORK.strip().splitlines()[:8]).replace("\n", "\n    ")
    (tmp_path / "mine.py").write_text(f"def make():\n    {made}\n    return model, nn.CrossEntropyLoss(), loader\n")
    asked = ["-m", "lib", "diagnose", "mine:make", "--perturbation", "read_noise", "--severity", "0.2"]
    run = _run("", installed, tmp_path, *asked, "--json", "out.json")
    assert run.returncode in (0, 1), run.stderr
    assert (tmp_path / "out.json").is_file() and "Read noise" in run.stdout
    refused = _run("", installed, tmp_path, *asked[:-1], "7")
    assert refused.returncode == 2 and refused.stderr.startswith("severity must be") and not refused.stdout
