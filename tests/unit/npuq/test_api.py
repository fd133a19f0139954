"""What programs import: `npuq.Client`, and only when they ask for it."""

import subprocess
import sys

import npuq
from npuq.client import Client
from npuq.entry import INSTALLATION


def test_the_client_is_where_programs_look_for_it() -> None:
    """`npuq.Client()`, as every text of ours says."""
    assert npuq.Client is Client
    assert set(npuq.__all__) >= {"Client", "__version__"}
    assert not hasattr(npuq, "Clinet")


def test_the_package_alone_imports_nothing() -> None:
    """Every other package builds on it, the help of the command line included."""
    probe = (
        "import npuq, sys; print([name for name in ('npuq.client', 'pydantic', 'sqlalchemy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=INSTALLATION, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
