"""Reads a Dockerfile into instructions: enough for the rules that the tests hold it to."""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction, its continuation lines joined, and the stage it belongs to ("" before the first FROM)."""

    word: str
    text: str
    stage: str


@dataclass(frozen=True, kw_only=True)
class Dockerfile:
    """A Dockerfile."""

    instructions: tuple[Instruction, ...]

    def of(self, word: str, stage: str | None = None) -> list[str]:
        """Return the texts of all instructions of a kind, of one stage or of all."""
        return [each.text for each in self.instructions if each.word == word and stage in {None, each.stage}]

    @property
    def stages(self) -> dict[str, str]:
        """Return stage -> what it begins with, build arguments filled in with their defaults."""
        found = {}
        for text in self.of("FROM"):
            image, name = re.fullmatch(r"(\S+) AS (\S+)", text).groups()  # type: ignore[union-attr]  # fails the test
            found[name] = self._filled(image)
        return found

    def lineage(self, stage: str) -> list[str]:
        """Return a stage and those it is built on, newest first."""
        chain = []
        while stage in self.stages:
            chain.append(stage)
            stage = self.stages[stage]
        return chain

    def last(self, word: str, stage: str) -> str | None:
        """Return what counts at the end of a stage: its own last instruction of a kind, or an inherited one."""
        for each in self.lineage(stage):
            if found := self.of(word, each):
                return found[-1]
        return None

    def _filled(self, image: str) -> str:
        defaults = dict(text.split("=", 1) for text in self.of("ARG", "") if "=" in text)
        return re.sub(r"\$\{(\w+)\}", lambda match: defaults[match.group(1)], image)


def read(path: Path) -> Dockerfile:
    """Read a file; comments and blank lines are dropped."""
    joined = re.sub(r"\\\n\s*", "", path.read_text("utf-8"))
    instructions: list[Instruction] = []
    stage = ""
    for line in joined.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        word, _, text = line.partition(" ")
        if word == "FROM":
            stage = text.rpartition(" AS ")[2]
        instructions.append(Instruction(word=word, text=text.strip(), stage=stage))
    return Dockerfile(instructions=tuple(instructions))
