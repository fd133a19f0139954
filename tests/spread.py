"""Which tests go to the same process of a parallel session: those that share what takes long to make.

Files stay whole, and some stay together. xdist's own marks for that are not heeded by every pytest.
"""

from collections.abc import Mapping
from typing import Final

from xdist.scheduler import LoadScopeScheduling

#: File -> what it shares with other files; every other file is on its own.
_SHARED: Final[Mapping[str, str]] = {
    "tests/acceptance/test_dataset_places.py": "laptop",
    "tests/acceptance/test_deployed_fleet.py": "laptop",
    "tests/acceptance/test_faults_in_recipe.py": "laptop",
    "tests/acceptance/test_gears.py": "laptop",
    "tests/acceptance/test_efficientdet_d0.py": "detecting",
    "tests/unit/tasks/test_efficientdet_demo_weights.py": "detecting",
    "tests/acceptance/test_nas_fpn.py": "detecting",
    "tests/acceptance/test_pyramidbox.py": "detecting",
    "tests/acceptance/test_ssd_mobilenetv2.py": "detecting",
    "tests/unit/tasks/test_ssd_demo_weights.py": "detecting",
}
#: Each of these is long, and shares nothing.
_APART: Final = frozenset({"tests/acceptance/test_chaos_short.py"})


class SharedThingsOnce(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives a process all tests of a file, and of the files that share something with it."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if file in _APART else _SHARED.get(file, file)
