from pathlib import Path

import pytest

from npuq.errors import ToolMissingError
from tasks import cann


def make_toolkit(root: Path, version: str) -> Path:
    """Write a toolkit that says its version."""
    (root / "compiler").mkdir(parents=True)
    (root / "compiler" / "version.info").write_text(f"Version={version}\nversion_dir=8.0\n")
    return root


def test_versions_lie_side_by_side(tmp_path: Path) -> None:
    """The named toolkit is the default; its neighbours can be asked for by version, other folders are no toolkits."""
    latest = make_toolkit(tmp_path / "latest", "8.0.RC2")
    make_toolkit(tmp_path / "7.0.0", "7.0.0")
    make_toolkit(tmp_path / "8.0.RC2", "8.0.RC2")
    (tmp_path / "set_env").mkdir()
    environment = {"ASCEND_TOOLKIT_HOME": str(latest)}
    found = cann.toolkits(environment)
    assert [(each.version, each.root.name, each.is_default) for each in found] == [
        ("8.0.RC2", "latest", True),
        ("7.0.0", "7.0.0", False),
    ]
    assert cann.find_toolkit(environment, "7.0.0").fingerprint == "cann-7.0.0"


def test_the_driver_beside_a_toolkit_is_none(tmp_path: Path) -> None:
    """CANN 9 lies in the same folder as driver and firmware, which have a version.info of their own."""
    cann_9 = make_toolkit(tmp_path / "cann-9.0.0", "9.0.0")
    for name in ("driver", "firmware"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "version.info").write_text("Version=24.1.0\n")
    assert [each.version for each in cann.toolkits({"ASCEND_TOOLKIT_HOME": str(cann_9)})] == ["9.0.0"]


def test_the_usual_places_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ASCEND_TOOLKIT_HOME the first place that has a toolkit gives the default."""
    make_toolkit(tmp_path / "cann-8.5.0", "8.5.0")
    make_toolkit(tmp_path / "cann", "8.5.0")
    monkeypatch.setattr(cann, "USUAL_PLACES", (f"{tmp_path}/nowhere", f"{tmp_path}/cann", f"{tmp_path}/cann-*"))
    (only,) = cann.toolkits({})
    assert only.root.name == "cann"


def test_a_toolkit_without_version_is_no_toolchain(tmp_path: Path) -> None:
    """Content keys need a version."""
    make_toolkit(tmp_path / "latest", "")
    with pytest.raises(ToolMissingError, match="does not say its version"):
        cann.fingerprint({"ASCEND_TOOLKIT_HOME": str(tmp_path / "latest")})


def test_the_install_info_wins(tmp_path: Path) -> None:
    """The toolkit's own version is preferred to the compiler's."""
    root = make_toolkit(tmp_path / "latest", "7.0")
    (root / "x86_64-linux").mkdir()
    (root / "x86_64-linux" / "ascend_toolkit_install.info").write_text("package=x\nversion=8.0.0-emulated\n")
    assert cann.fingerprint({"ASCEND_TOOLKIT_HOME": str(root)}) == "cann-8.0.0-emulated"


def test_another_versions_atc_is_not_the_one_on_path(tmp_path: Path) -> None:
    """PATH belongs to the default toolkit; a toolkit without atc says so."""
    for folder in (tmp_path / "bin", tmp_path / "latest" / "bin"):
        folder.mkdir(parents=True)
        (folder / "atc").write_text("#!/bin/sh\n")
        (folder / "atc").chmod(0o755)
    environment = {"PATH": str(tmp_path / "bin")}
    root = tmp_path / "latest"
    default = cann.Toolkit(root=root, version="8.0", is_default=True)
    other = cann.Toolkit(root=root, version="7.0")
    assert cann.find_atc(default, environment) == tmp_path / "bin" / "atc"
    assert cann.find_atc(other, environment) == root / "bin" / "atc"
    (root / "bin" / "atc").unlink()
    with pytest.raises(ToolMissingError, match="was not found"):
        cann.find_atc(other, environment)
