"""OWLv2 by transformers: an open-vocabulary detector with a permissive licence."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import AutoProcessor, Owlv2ForObjectDetection

from gigavideo_data import heartbeat
from gigavideo_data.models.judges.boxes import Box

BATCH = 8  # frames at once


class TransformersDetector:
    """One detector, on the first accelerator if there is one."""

    def __init__(self, model: str, revision: str | None, threshold: float) -> None:
        """Load it.

        Args:
            model: Hub id or folder.
            revision: commit of the Hub id; None of a folder.
            threshold: least score of a box. It must be tuned for each detector: 0.28 is YOLO-World's.
        """
        self.threshold = threshold
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.processor: Any = AutoProcessor.from_pretrained(model, revision=revision)
        loaded = Owlv2ForObjectDetection.from_pretrained(model, revision=revision, use_safetensors=True)
        self.model: Any = loaded.eval().to(self.device)

    @torch.inference_mode()
    def detect(self, frames_THWC: np.ndarray, labels: list[str]) -> list[list[Box]]:
        """Boxes of each frame with a score above the threshold (see `Detector`)."""
        found: list[list[Box]] = []
        for start in range(0, len(frames_THWC), BATCH):
            frames = list(frames_THWC[start : start + BATCH])
            texts = [[f"a photo of a {label}" for label in labels]] * len(frames)
            inputs = self.processor(text=texts, images=frames, return_tensors="pt").to(self.device)
            outputs = self.model(**inputs)
            heartbeat.beat()
            sizes = [frame_HWC.shape[:2] for frame_HWC in frames]
            for one in self.processor.post_process_grounded_object_detection(
                outputs, threshold=self.threshold, target_sizes=sizes, text_labels=[labels] * len(frames)
            ):
                corners = one["boxes"].float().cpu().tolist()
                found.append(
                    [
                        Box(label, float(score), *box)
                        for label, score, box in zip(one["text_labels"], one["scores"], corners, strict=True)
                    ]
                )
        return found
