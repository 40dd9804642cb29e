"""Devices are resolved or refused, streams are their own, and progress never reaches a cell."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path

import pytest
import torch

from lib import runtime
from lib.checks import ParameterError


def test_cpu_is_always_there():
    assert runtime.resolve_device("cpu") == torch.device("cpu")
    assert runtime.resolve_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:N", "cuda:-1", "", None, 0, "CPU"])
def test_an_unknown_device_is_one_sentence(device):
    with pytest.raises(ParameterError, match=r"^device must be .*, but .* was given\.$"):
        runtime.resolve_device(device)


def without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_an_absent_device_names_what_there_is(monkeypatch, device):
    without_gpu(monkeypatch)
    with pytest.raises(ParameterError) as caught:
        runtime.resolve_device(device)
    assert str(caught.value) == (f"device must be one that this machine offers (auto, cpu), but '{device}' was given.")


def test_auto_takes_a_gpu_when_there_is_one(monkeypatch):
    without_gpu(monkeypatch)
    assert runtime.resolve_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert runtime.resolve_device("auto") == torch.device("cuda:1")
    assert runtime.resolve_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(ParameterError, match="cuda:0, cuda:1"):
        runtime.resolve_device("cuda:2")


def test_a_stream_is_the_same_every_time_and_differs_from_every_other():
    names = [(), ("noise",), ("noise", 0), ("noise", 1), ("noise", "1"), ("ab", "c"), ("a", "bc"), ("noise", 0, 1)]
    seeds = [0, 1, -1, 2**40]
    drawn = {
        (seed, n): tuple(torch.rand(4, generator=runtime.stream(seed, *n)).tolist()) for seed in seeds for n in names
    }
    assert len(set(drawn.values())) == len(seeds) * len(names)
    for (seed, n), values in drawn.items():
        assert tuple(torch.rand(4, generator=runtime.stream(seed, *n)).tolist()) == values


def test_streams_are_stable_across_versions():
    # blake2b and the Mersenne twister are fixed: a change here would change every result in the book.
    assert runtime.stream(0, "noise", 3).initial_seed() == 1402767978


def test_streams_are_uncorrelated_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    drawn = torch.stack([torch.randn(4000, generator=runtime.stream(7, "replica", i)) for i in range(8)])
    assert torch.equal(before, torch.get_rng_state())
    correlation = torch.corrcoef(drawn) - torch.eye(8)
    assert correlation.abs().max() < 5 / 4000**0.5


def test_progress_is_silent_without_a_terminal(capfd):
    with runtime.progress(3, "steps") as advance:
        advance(3)
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_progress_from_a_kernel_goes_to_the_terminal_and_not_to_the_cell(tmp_path):
    """A real kernel, started from a process whose standard error is a terminal."""
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            import nbformat
            from nbclient import NotebookClient

            source = '''
            from lib import runtime
            with runtime.progress(2, "a label") as advance:
                advance(1)
                advance(1)
            print("done")
            '''
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
            client = NotebookClient(notebook, timeout=600, startup_timeout=600, kernel_name="python3")
            client.execute()
            for output in notebook.cells[0].outputs:
                print(output.get("name"), repr(output.get("text")))
            """
        )
    )
    terminal, inherited = os.openpty()
    # Under pytest a kernel leaves its descriptors alone; here it has to behave as it does elsewhere.
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"}
    environment["PYTHONPATH"] = str(Path(runtime.__file__).parents[1])
    pieces: list[bytes] = []

    def watch() -> None:
        # A terminal that nobody reads fills up and blocks its writer; reading ends with the last writer.
        with contextlib.suppress(OSError):
            while piece := os.read(terminal, 4096):
                pieces.append(piece)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    command = [sys.executable, str(script)]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=inherited, text=True, env=environment, timeout=900)
    os.close(inherited)
    watcher.join(timeout=60)
    os.close(terminal)
    shown = b"".join(pieces).decode()
    assert run.returncode == 0, shown
    assert run.stdout.strip() == "stdout 'done\\n'"
    assert "a label" in shown and "0/2" in shown


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_progress_on_a_terminal(monkeypatch):
    terminal, inherited = os.openpty()
    with os.fdopen(inherited, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with runtime.progress(4, "chips") as advance:
            advance(4)
        assert not stream.closed
        shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert "chips" in shown and "0/4" in shown


def test_threads_counts_torch():
    assert runtime.threads() == torch.get_num_threads() >= 1


def test_all_derangements_are_equally_likely_and_there_are_no_other_orders():
    generator = runtime.stream(0, "derangements")
    drawn = Counter(tuple(runtime.derangement(4, generator).tolist()) for _ in range(1800))
    expected = {order for order in itertools.permutations(range(4)) if all(a != b for a, b in enumerate(order))}
    assert set(drawn) == expected and all(150 < count < 250 for count in drawn.values())
    with pytest.raises(ParameterError, match="^count must be"):
        runtime.derangement(1, generator)
