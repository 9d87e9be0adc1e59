"""Images scored with no code: each of them is a call of the model of its own.

One call for several would need a model that treats them one by one to the last bit, which nobody
can tell from its signature; and it is not what Azure does.
"""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from batchpoint_worker import image_reading
from batchpoint_worker.failures import bounded
from batchpoint_worker.image_form import BYTES, PIXELS, ImageForm, form_of
from batchpoint_worker.image_reading import NoImage
from batchpoint_worker.mlmodel import ModelFile
from batchpoint_worker.row_isolation import Isolation
from batchpoint_worker.scorer import TaskFailed
from batchpoint_worker.sources import Bad, unreadable

# A signature's tensor with so many dimensions is there for images.
IMAGE_DIMENSIONS_MIN = 3


class ImageScoring:
    """How one model is given images."""

    def __init__(self, file: ModelFile) -> None:
        self.form: ImageForm = form_of(file)
        self._name = file.tensor.name if file.tensor is not None else ""

    def prepare(self) -> List[str]:
        """Load what decoding needs if the model is made for images; return warnings.

        A model may be made for tensors of that shape and be given them in tables, so what is
        missing is an error only when the first image comes.
        """
        if self.form.kind != PIXELS or len(self.form.shape) < IMAGE_DIMENSIONS_MIN:
            return []
        try:
            image_reading.pillow().preinit()
        except TaskFailed as missing:
            return [str(missing)]
        return []

    def score(self, items: Sequence[Dict[str, Any]], isolation: Isolation) -> List[Bad]:
        """Have the images among the items predicted; return those that could not be read.

        Raises:
            TaskFailed: the environment lacks what reading them needs.
            Exception: what the model raised, when it failed alike on image after image.
        """
        bad: List[Bad] = []
        for place, item in enumerate(items):
            if not image_reading.is_image(item["name"]):
                continue
            try:
                given = self._given(item)
            except NoImage as problem:
                bad.append(unreadable(place, bounded(str(problem), 1_000)))
                continue
            isolation.score_whole(place, given)
        isolation.join_wholes()
        return bad

    def _given(self, item: Dict[str, Any]) -> Any:
        """Return what the model's `predict` gets for an image."""
        if self.form.kind == BYTES:
            return image_reading.bytes_frame(item, self.form)
        if self.form.kind == PIXELS:
            array = image_reading.read(item, self.form)
            return {self._name: array} if self._name else array
        raise NoImage(
            "%s is an image, and %s; use tables, or deploy with a scoring script"
            % (item["name"], self.form.refusal)
        )
