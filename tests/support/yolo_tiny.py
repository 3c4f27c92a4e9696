"""YOLOv3-tiny, read from darknet's file by torch: a real detector of 80 kinds behind the counting judge's protocol."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gigavideo_data.models.judges.boxes import Box

SIDE = 416  # px
ANCHORS = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))  # px
OVERLAP = 0.45  # intersection over union from where on two boxes of one kind show one thing
HEADER_BYTES = 20
# Filters and size of each convolution in the order of the file; no normalisation where there are 255.
CONVOLUTIONS = ((16, 3), (32, 3), (64, 3), (128, 3), (256, 3), (512, 3), (1024, 3), (256, 1), (512, 3), (255, 1),
                (128, 1), (256, 3), (255, 1))  # fmt: skip
INPUTS = {10: 256, 11: 128 + 256}  # channels that a convolution takes where they are not those of the one before


class YoloTiny:
    """A detector for tests."""

    def __init__(self, weights: Path, names: Path, threshold: float) -> None:
        """Read its weights, and the names of what it knows."""
        self.names, self.threshold = names.read_text().split("\n")[:80], threshold
        numbers = torch.from_numpy(np.fromfile(weights, np.float32, offset=HEADER_BYTES))
        self.layers, channels = [], 3
        for at, (filters, size) in enumerate(CONVOLUTIONS):
            channels = INPUTS.get(at, channels)
            convolution = nn.Conv2d(channels, filters, size, padding=size // 2)
            parts = [numbers[row * filters : (row + 1) * filters] for row in range(1 if filters == 255 else 4)]
            numbers = numbers[len(parts) * filters :]
            kernel, numbers = numbers[: convolution.weight.numel()], numbers[convolution.weight.numel() :]
            bias, weight = parts[0], kernel.view_as(convolution.weight)
            if len(parts) == 4:  # bias, scale, mean and variance of the normalisation, folded into the convolution
                scale = parts[1] / torch.sqrt(parts[3] + 1e-5)
                bias, weight = bias - parts[2] * scale, weight * scale[:, None, None, None]
            convolution.load_state_dict({"weight": weight, "bias": bias})
            self.layers.append(convolution)
            channels = filters
        assert not len(numbers), "the file holds another network"

    def detect(self, frames_THWC: np.ndarray, labels: list[str]) -> list[list[Box]]:
        """Boxes of the kinds asked for, in each frame."""
        with torch.inference_mode():
            return [self._boxes(frame_HWC, labels) for frame_HWC in frames_THWC]

    def _boxes(self, frame_HWC: np.ndarray, labels: list[str]) -> list[Box]:
        height, width = frame_HWC.shape[:2]
        scale = SIDE / max(height, width)
        shown_HWC = cv2.resize(frame_HWC, (round(width * scale), round(height * scale)))
        top, left = (SIDE - shown_HWC.shape[0]) // 2, (SIDE - shown_HWC.shape[1]) // 2
        picture = torch.full((1, 3, SIDE, SIDE), 0.5)
        picture[0, :, top : top + shown_HWC.shape[0], left : left + shown_HWC.shape[1]] = (
            torch.from_numpy(shown_HWC).permute(2, 0, 1) / 255
        )
        found = torch.cat([_read(*head) for head in zip(self._heads(picture), (ANCHORS[3:], ANCHORS[:3]), strict=True)])
        boxes = []
        for label in set(labels) & set(self.names):
            scores = found[:, 4] * found[:, 5 + self.names.index(label)]
            for at in _sharpest(found[:, :4], scores, self.threshold):
                x, y, w, h = found[at, :4].tolist()
                corners = [(x - w / 2 - left, y - h / 2 - top), (x + w / 2 - left, y + h / 2 - top)]
                boxes.append(Box(label, float(scores[at]), *(side / scale for corner in corners for side in corner)))
        return boxes

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept = x
        for at in range(7):
            x = F.leaky_relu(self.layers[at](x), 0.1)
            if at == 4:
                kept = x
            if at < 5:
                x = F.max_pool2d(x, 2)
            elif at == 5:
                x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 2, stride=1)
        x = F.leaky_relu(self.layers[7](x), 0.1)
        coarse = self.layers[9](F.leaky_relu(self.layers[8](x), 0.1))
        fine = F.interpolate(F.leaky_relu(self.layers[10](x), 0.1), scale_factor=2)
        fine = F.leaky_relu(self.layers[11](torch.cat([fine, kept], dim=1)), 0.1)
        return coarse, self.layers[12](fine)


def _read(head: Tensor, anchors: tuple[tuple[int, int], ...]) -> Tensor:
    """(N, 85) of one head: centre, width and height in px, how surely there is anything, how surely each kind."""
    side = head.shape[-1]
    found = head.view(3, 85, side, side).permute(0, 2, 3, 1)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    centres = (found[..., :2].sigmoid() + torch.stack([columns, rows], dim=-1)) * SIDE / side
    sizes = found[..., 2:4].exp() * torch.tensor(anchors)[:, None, None]
    return torch.cat([centres, sizes, found[..., 4:].sigmoid()], dim=-1).reshape(-1, 85)


def _sharpest(boxes: Tensor, scores: Tensor, threshold: float) -> list[int]:
    """Which boxes are left where a surer one does not overlap them."""
    left: list[int] = []
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    for at in scores.argsort(descending=True).tolist():
        if scores[at] < threshold:
            break
        shared = (torch.minimum(high[at], high[left]) - torch.maximum(low[at], low[left])).clamp(min=0).prod(dim=1)
        areas = boxes[at, 2:].prod() + boxes[left, 2:].prod(dim=1)
        if not (shared / (areas - shared) > OVERLAP).any():
            left.append(at)
    return left
