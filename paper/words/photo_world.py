"""Sentences of the page on photographs: numbers from tables and records, statements from findings."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lib.prompts import photographs
from lib.prompts.photographs import looks, words
from lib.results import Tables
from lib.runtime import stream
from lib.verdicts import Findings
from paper.figures.prompts import spelt
from paper.photo_captions import Captions
from paper.photo_questions import QUESTIONS
from paper.words.outcomes import decided


def made(record: dict) -> str:
    """How the shipped weights were made."""
    origin, data, known = record["provenance"], record["data"], words.classes()
    steps, seen = record["recipe"]["steps"], len(data["seen"])
    shown = data["pictures_per_class"]
    general = {word for one in known for word in one.general}
    return (
        f"{record['parameters'] / 1e6:.2f} million parameters; {seen} of the {len(known)} classes of {data['name']},"
        f" {shown} pictures of each, shown {steps / shown:.1f} times in the mean ({steps:,} steps of {seen} pictures)."
        f" Its {len(words.vocabulary())} words are the classes' names, {len(general)} more general words, and how a"
        f" picture looks. Trained in {origin['seconds'] / 60:.0f} minutes on {origin['device_name']}"
        f" ({origin['threads']} threads), seed {origin['seeds'][0]}, torch {origin['torch']}."
    )


def captions(count: int = 8, seed: int = 2) -> str:
    """Captions as pre-training makes them for some of its classes, and of how many classes each is true (a Markdown
    table).
    """
    known = words.classes()
    seen = [place for place, one in enumerate(known) if one.seen]
    labels = torch.tensor(seen[:: len(seen) // count][:count])
    has = looks.looks(len(labels), stream(seed, "captions"))
    texts, owner, kinds, _ = Captions(seed)(labels, has)
    lines = ["| Picture of | Caption | True of classes |", "|---|---|---|"]
    for text, own, true in zip(texts, owner.tolist(), kinds.sum(1).tolist(), strict=True):
        lines.append(f"| {known[int(labels[own])].names[0]} | {text} | {true} of {len(known)} |")
    return "\n".join(lines)


def tasks() -> str:
    """What every task of photographs asks, and where its pictures come from (a Markdown table)."""
    lines = ["| Task | What it asks | Pictures |", "|---|---|---|"]
    for name, about in photographs.TASKS.items():
        shipped = photographs.get(name)[0].source == photographs.CIFAR
        lines.append(f"| {spelt(name)} | {about} | {'shipped' if shipped else 'Tiny ImageNet, below `root`'} |")
    return "\n".join(lines)


def questions(tables: Tables) -> str:
    """What was asked, in words, and what is left out."""
    asked = list(tables["zero_shot"]["task"])
    told = "; ".join(f"*{spelt(name)}*: {QUESTIONS[name].about}" for name in asked)
    left = [name for name in QUESTIONS if name not in asked]
    named = ", ".join(f"*{spelt(name)}*" for name in left)
    return f"{told}." + (f" Not asked here, for want of Tiny ImageNet's archive: {named}." if left else "")


def again(study_tasks: Sequence[str], tables: Tables) -> str:
    """What this run has left out of what is shown."""
    left = [name for name in tables["zero_shot"]["task"] if name not in study_tasks]
    if not left:
        return ""
    named = ", ".join(f"*{spelt(name)}*" for name in left)
    return f"This run asks only what the shipped pictures can answer; not asked again: {named}."


def limits(tables: Tables, findings: Findings) -> str:
    """What PhotoCLIP is short of."""
    table = tables["zero_shot"].set_index("task")
    parts = []
    for name, words_of in {
        "seen_by_name": "the classes of its pre-training by their names",
        "twenty_of_seen": "twenty of them at a time",
        "objects": "CIFAR-10",
    }.items():
        if name in table.index:
            row = table.loc[name]
            parts.append(f"{row.accuracy:.0f} % on {words_of} (chance {row.chance:.1f} %)")
    told = [f"It is right in {'; in '.join(parts)}."] if parts else []
    told.append(
        decided(
            findings,
            {
                "photo_world.unseen_by_kind": (
                    "General words carry over to classes that it was never shown ({value:.0f} %).",
                    "General words carry over to classes that it was never shown only in part ({value:.0f} %).",
                )
            },
        )
    )
    if "unseen_by_name" in table.index:
        row = table.loc["unseen_by_name"]
        told.append(
            f"Names that no caption ever said are noise to it, but for words in them that other captions said:"
            f" {row.accuracy:.0f} % where guessing gives {row.chance:.1f} %."
        )
    return " ".join(filter(None, told))
