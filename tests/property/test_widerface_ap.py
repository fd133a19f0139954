"""The evaluation of WIDER FACE is what its rules written out give, whatever the boxes and the scores are."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.protocols import WIDER_DIFFICULTIES
from tasks.widerface_scores import score
from tests.unit.tasks import plain_widerface
from tests.unit.tasks.memory_widerface import MemoryWider, detections, faces

# Few places and sizes, so that overlaps are often equal, exactly at the threshold, or of boxes without a size.
BOXES = st.tuples(st.integers(-2, 9), st.integers(-2, 9), st.integers(-1, 8), st.integers(-1, 8))
SCORES = st.sampled_from([0.05, 0.3, 0.3004, 0.3006, 0.5, 0.999, 1.0])
FACES = st.lists(st.tuples(BOXES, st.sampled_from(["", "h", "mh", "emh"])), max_size=5)
FOUND = st.lists(st.tuples(BOXES, SCORES), max_size=7).map(lambda rows: sorted(rows, key=lambda row: -row[1]))


@settings(max_examples=60, deadline=None)
@given(images=st.lists(st.tuples(FACES, FOUND), max_size=4), found=FOUND, iou=st.sampled_from([0.25, 0.4, 0.5, 1.0]))
def test_rules_written_out_give_the_same(
    images: list[tuple[list[tuple[tuple[float, ...], str]], list[tuple[tuple[float, ...], float]]]],
    found: list[tuple[tuple[float, ...], float]],
    iou: float,
) -> None:
    """One face counts for everything, so that there always is something to find."""
    images = [([((1, 1, 6, 6), "emh"), ((3, 1, 6, 6), "h")], found), *images]
    dataset = MemoryWider(truth={f"e/{number}": faces(rows) for number, (rows, _) in enumerate(images)})
    predictions = {f"e/{number}": detections(rows) for number, (_, rows) in enumerate(images)}
    rows = {image_id: plain_widerface.written(of_image) for image_id, of_image in predictions.items()}
    ours = score(predictions, dataset, iou=iou)
    for difficulty in WIDER_DIFFICULTIES:
        expected = plain_widerface.average_precision(rows, dataset.truth, difficulty, iou=iou)
        assert abs(getattr(ours, difficulty) - expected) < 1e-12
