"""The U-Net that was published for abdominal X-rays: BatchNorm behind every convolution, borders padded."""

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """Four times down and up again, with the features of each level handed across.

    Unlike the first U-Net its convolutions are padded, so that the mask is as large as the picture.

    Source: Ronneberger et al. 2015, arXiv:1505.04597; widths and BatchNorm as in the published recipe
    """

    def __init__(self, classes: int, widths: tuple[int, ...] = (64, 128, 256, 512, 1024)) -> None:
        super().__init__()
        pairs = list(zip((3, *widths), widths, strict=False))
        self.down = nn.ModuleList(_block(before, after) for before, after in pairs)
        self.pool = nn.MaxPool2d(2)
        ups = list(zip(widths[::-1], widths[-2::-1], strict=False))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(before, after, 2, stride=2) for before, after in ups)
        self.up = nn.ModuleList(_block(2 * after, after) for _, after in ups)
        self.segmentation_head = nn.Conv2d(widths[0], classes, 1)

    def features(self, batch: Tensor) -> Tensor:
        """Shapes: (N, 3, H, W), H and W multiples of 2^(levels - 1) -> (N, widths[0], H, W)."""
        across = []
        for level, block in enumerate(self.down):
            batch = block(self.pool(batch) if level else batch)
            across.append(batch)
        for enlarge, block, beside in zip(self.enlarge, self.up, across[-2::-1], strict=True):
            batch = block(torch.cat([beside, enlarge(batch)], dim=1))
        return batch

    def forward(self, batch: Tensor) -> Tensor:
        """Shapes: (N, 3, H, W) -> (N, classes, H, W)."""
        return self.segmentation_head(self.features(batch))  # type: ignore[no-any-return]


def _block(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(True)]
    return nn.Sequential(*layers)
