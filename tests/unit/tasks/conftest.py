"""What several tests of the work share: one small demo, made once, and tiny datasets."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.demo_data import DemoFiles, make_demo
from tasks.steps import DatasetRef
from tests.services.registered import register_folder


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    """Return a demo with few pictures; read only."""
    return make_demo(tmp_path_factory.mktemp("demo") / "data", classes=8, train=96, val=64)


@pytest.fixture
def imagenet_folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of dataset folders: image names to bytes, and the text of the label file."""

    def make(images: dict[str, bytes], labels: str | None, *, inside: str = "val") -> Path:
        root = tmp_path / "imagenet"
        root.mkdir()
        for name, content in images.items():
            path = root / inside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if labels is not None:
            (root / "val_label.txt").write_text(labels, encoding="utf-8")
        return root

    return make


@pytest.fixture
def registered() -> Callable[[Path], DatasetRef]:
    """Return a function that registers a folder as it is now."""
    return lambda root: register_folder(root, root.parent / "manifest.json")
