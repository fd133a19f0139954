"""The manifest's text: canonical, and refused where it could lead elsewhere."""

import hashlib

import pytest

from npuq.canonical_json import canonical_json
from tasks.dataset_manifest import FileEntry, Manifest, SampleEntry

SHA = "a" * 64
MANIFEST = Manifest(
    format="imagenet",
    samples=(SampleEntry(image_id="x", path="val/x.JPEG", size_bytes=3, sha256=SHA, label=7),),
    annotations=(FileEntry(path="b.txt", size_bytes=2, sha256=SHA), FileEntry(path="a.txt", size_bytes=1, sha256=SHA)),
)


def test_the_text_is_what_it_was_when_datasets_were_registered() -> None:
    """Every registered digest depends on these very bytes."""
    assert MANIFEST.text.decode() == (
        '{"annotations":['
        f'{{"path":"a.txt","sha256":"{SHA}","size_bytes":1}},{{"path":"b.txt","sha256":"{SHA}","size_bytes":2}}],'
        '"format":"imagenet","kind":"npuq.dataset","samples":['
        f'{{"image_id":"x","label":7,"path":"val/x.JPEG","sha256":"{SHA}","size_bytes":3}}],"version":1}}'
    )
    assert MANIFEST.digest == hashlib.sha256(MANIFEST.text).hexdigest()


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"path": "../x"}, "leads out"),
        ({"path": "/etc/passwd"}, "leads out"),
        ({"path": "val/../../x"}, "leads out"),
        ({"path": ""}, "names no file"),
        ({"path": "."}, "names no file"),
        ({"path": "val//x"}, "names no file"),
        ({"path": "./x"}, "names no file"),
        ({"path": "val/"}, "names no file"),
        ({"path": "x\0.JPEG"}, "names no file"),
        ({"path": "\ud800"}, "surrogates not allowed"),
        ({"path": "x/y/z"}, "'x' is a file and a folder"),
        ({"path": "z"}, "a file is listed twice"),
        ({"sha256": "../../x"}, "no SHA-256"),
        ({"size_bytes": "many"}, "many"),
        ({"image_id": "y"}, "listed twice"),
    ],
)
def test_what_could_lead_elsewhere_is_refused(part: dict[str, str], said: str) -> None:
    """Paths and digests become names of files on a worker."""
    sample = {"image_id": "x", "label": 0, "path": "x", "sha256": SHA, "size_bytes": 1}
    others = [sample | {"image_id": "y"}, sample | {"image_id": "w", "path": "z"}]
    samples = [sample | part, *others]
    document = {"kind": "npuq.dataset", "version": 1, "format": "f", "annotations": [], "samples": samples}
    text = canonical_json(document).encode()
    with pytest.raises(ValueError, match=said):
        Manifest.parse(text, digest=hashlib.sha256(text).hexdigest())


def test_bytes_of_another_digest_are_refused() -> None:
    """Whatever they say."""
    with pytest.raises(ValueError, match="another SHA-256"):
        Manifest.parse(MANIFEST.text, digest=SHA)
