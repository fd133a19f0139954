"""WIDER FACE's evaluation written out: one image, one detection, one threshold at a time, from lines of text.

It follows the published tool step by step and rounds by writing and reading text, so that what the arrays do at once
has something slow and plain to be held against.
"""

from collections.abc import Mapping, Sequence

from tasks.protocols import Detections, WiderFaces

Row = tuple[float, float, float, float, float]
THRESHOLDS = 1000


def written(found: Detections) -> list[Row]:
    """Return rows of x, y, width, height and score as a text file has them."""
    rows = []
    for (x1, y1, x2, y2), score in zip(found.boxes.tolist(), found.scores.tolist(), strict=True):
        text = f"{x1:.1f} {y1:.1f} {x2 - x1 + 1:.1f} {y2 - y1 + 1:.1f} {score:.3f}"
        x, y, width, height, value = (float(part) for part in text.split())
        rows.append((x, y, width, height, value))
    return rows


def average_precision(
    rows: Mapping[str, Sequence[Row]], truth: Mapping[str, WiderFaces], difficulty: str, *, iou: float
) -> float:
    """Return the average precision. Rows are best first, and there has to be a face that counts."""
    values = [row[4] for of_image in rows.values() for row in of_image]
    low, high = min([1.0, *values]), max([0.0, *values])
    proposals, recalled = [0] * THRESHOLDS, [0] * THRESHOLDS
    total = sum(int(true.counted[difficulty].sum()) for true in truth.values())
    for image_id, true in truth.items():
        found = rows[image_id]
        if not found or not len(true.boxes):
            continue
        marks, so_far = _walk(found, true.boxes.tolist(), true.counted[difficulty].tolist(), iou)
        scores = [(row[4] - low) / (high - low) if high > low else 1.0 for row in found]
        reaching = 0
        for number in range(THRESHOLDS):
            while reaching < len(scores) and scores[reaching] >= 1 - (number + 1) / THRESHOLDS:
                reaching += 1
            if reaching:
                proposals[number] += sum(marks[:reaching])
                recalled[number] += so_far[reaching - 1]
    precision = [right / count if count else 0.0 for right, count in zip(recalled, proposals, strict=True)]
    return _area([right / total for right in recalled], precision)


def _walk(
    found: Sequence[Row], faces: Sequence[Sequence[float]], counted: Sequence[bool], iou: float
) -> tuple[list[bool], list[int]]:
    """Return which detections count, and how many faces are found after each."""
    matched: set[int] = set()
    marks, so_far = [], []
    for row in found:
        overlaps = [_overlap(row, face) for face in faces]
        best = overlaps.index(max(overlaps))
        hit = overlaps[best] >= iou
        marks.append(not hit or counted[best])
        if hit and counted[best]:
            matched.add(best)
        so_far.append(len(matched))
    return marks, so_far


def _overlap(row: Sequence[float], face: Sequence[float]) -> float:
    x1, y1, x2, y2 = row[0], row[1], row[0] + row[2], row[1] + row[3]
    u1, v1, u2, v2 = face[0], face[1], face[0] + face[2], face[1] + face[3]
    wide, high = min(x2, u2) - max(x1, u1) + 1, min(y2, v2) - max(y1, v1) + 1
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / ((x2 - x1 + 1) * (y2 - y1 + 1) + (u2 - u1 + 1) * (v2 - v1 + 1) - wide * high)


def _area(recall: Sequence[float], precision: Sequence[float]) -> float:
    area, best = 0.0, 0.0
    for place in reversed(range(THRESHOLDS)):
        best = max(best, precision[place])
        area += best * (recall[place] - (recall[place - 1] if place else 0.0))
    return area
