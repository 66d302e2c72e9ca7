#!/usr/bin/env python3
"""Times torchvision v2 on the way from files to batches, as one JSON line.

    pip install torch torchvision pillow
    python tools/peers/data_pipeline.py ../shared/data/coco-tiny

The same stages as `deim bench data`, with the operations that the official pipeline takes from
torchvision (deim-facts 3.2 to 3.4), on one thread: Pillow decodes, transforms.v2 augments. The mosaic
is written from its description: three other images, shorter sides at half the input, pasted, then
turned, shifted and scaled with nearest neighbour. No image is kept decoded.
"""

import argparse
import json
import os
import random
import time

import torch
import torchvision
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

torch.set_num_threads(1)


class Coco:
    """The images of one split with their boxes, read as the official data set reads them."""

    def __init__(self, folder):
        split = sorted(os.listdir(os.path.join(folder, "annotations")))[0]
        with open(os.path.join(folder, "annotations", split)) as file:
            content = json.load(file)
        images = os.path.join(folder, split.removeprefix("instances_").removesuffix(".json"))
        by_image = {image["id"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            if not annotation.get("iscrowd"):
                by_image[annotation["image_id"]].append(annotation)
        self.items = [
            (os.path.join(images, image["file_name"]), by_image[image["id"]])
            for image in content["images"]
        ]

    def __len__(self):
        return len(self.items)

    def load(self, index):
        path, annotations = self.items[index]
        image = Image.open(path).convert("RGB")
        width, height = image.size
        boxes = torch.tensor([a["bbox"] for a in annotations], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, 0::2].clamp_(min=0, max=width)
        boxes[:, 1::2].clamp_(min=0, max=height)
        labels = torch.tensor([a["category_id"] for a in annotations], dtype=torch.int64)
        keep = (boxes[:, 3] > boxes[:, 1]) & (boxes[:, 2] > boxes[:, 0])
        boxes = tv_tensors.BoundingBoxes(boxes[keep], format="XYXY", canvas_size=(height, width))
        return image, {"boxes": boxes, "labels": labels[keep]}


class Pipeline:
    def __init__(self, data, size, mosaic):
        self.data, self.size, self.mosaic = data, size, mosaic
        self.photometric = v2.RandomPhotometricDistort(p=0.5)
        self.strong = v2.Compose([v2.RandomZoomOut(fill=0), CropSometimes(0.8)])
        self.tile = v2.Resize(size=size // 2)
        self.turn = v2.RandomAffine(degrees=10, translate=(0.1, 0.1), scale=(0.5, 1.5), fill=0)
        self.rest = v2.Compose(
            [
                v2.SanitizeBoundingBoxes(min_size=1),
                v2.RandomHorizontalFlip(),
                v2.Resize(size=[size, size]),
                v2.SanitizeBoundingBoxes(min_size=1),
            ]
        )

    def stitched(self, index):
        others = [random.randrange(len(self.data)) for _ in range(3)]
        tiles = [self.tile(*self.data.load(each)) for each in [index, *others]]
        width = max(image.width for image, _ in tiles)
        height = max(image.height for image, _ in tiles)
        canvas = Image.new("RGB", (2 * width, 2 * height))
        boxes, labels = [], []
        for cell, (image, target) in enumerate(tiles):
            left, top = cell % 2 * width, cell // 2 * height
            canvas.paste(image, (left, top))
            boxes.append(target["boxes"].as_subclass(torch.Tensor) + torch.tensor([left, top] * 2))
            labels.append(target["labels"])
        boxes = tv_tensors.BoundingBoxes(
            torch.cat(boxes), format="XYXY", canvas_size=(2 * height, 2 * width)
        )
        return self.turn(canvas, {"boxes": boxes, "labels": torch.cat(labels)})

    def sample(self, index, mosaic):
        if random.random() < mosaic:
            image, target = self.photometric(*self.stitched(index))
        else:
            image, target = self.strong(*self.photometric(*self.data.load(index)))
        return self.tensors(*self.rest(image, target))

    def tensors(self, image, target):
        image = F.to_dtype(F.pil_to_tensor(image), torch.float32, scale=True)
        boxes = F.convert_bounding_box_format(target["boxes"], new_format="CXCYWH")
        return image, boxes.as_subclass(torch.Tensor) / self.size, target["labels"]

    def resized(self, index):
        image, _ = self.data.load(index)
        image = F.resize(image, [self.size, self.size])
        return F.to_dtype(F.pil_to_tensor(image), torch.float32, scale=True)


class CropSometimes(v2.RandomIoUCrop):
    def __init__(self, probability):
        super().__init__()
        self.probability = probability

    def forward(self, *inputs):
        return inputs if random.random() >= self.probability else super().forward(*inputs)


def scales(size, repeat=3):
    """The official multi-scale sizes."""
    step = round(size * 0.25 / 32) * 32
    small = [size - step + 32 * k for k in range(step // 32)]
    large = [size + step - 32 * k for k in range(step // 32)]
    return small + [size] * repeat + large


def dense(pipeline, batch):
    samples = [pipeline.sample(index, pipeline.mosaic) for index in batch]
    images = torch.stack([image for image, _, _ in samples])
    if random.random() < 0.5:
        beta = round(random.uniform(0.45, 0.55), 6)
        images = images.roll(1, 0).mul_(1 - beta).add_(images.mul(beta))
        boxes = [torch.cat([samples[i][1], samples[i - 1][1]]) for i in range(len(samples))]
        assert len(boxes) == len(batch)
    side = random.choice(scales(pipeline.size))
    return torch.nn.functional.interpolate(images, size=side) if side != pipeline.size else images


def measure(step, data, batch, seconds):
    def once():
        order = list(range(len(data)))
        random.shuffle(order)
        count = 0
        for start in range(0, len(order) - batch + 1, batch):
            step(order[start : start + batch])
            count += batch
        return count

    once()
    start, images = time.perf_counter(), 0
    while True:
        images += once()
        if time.perf_counter() - start >= seconds:
            return round(images / (time.perf_counter() - start), 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--mosaic", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    data = Coco(arguments.folder)
    pipeline = Pipeline(data, arguments.size, arguments.mosaic)
    stages = {
        "decode": lambda batch: [data.load(index) for index in batch],
        "evaluate": lambda batch: torch.stack([pipeline.resized(index) for index in batch]),
        "base": lambda batch: torch.stack([pipeline.sample(index, 0.0)[0] for index in batch]),
        "dense": lambda batch: dense(pipeline, batch),
    }
    rates = {
        name: measure(step, data, arguments.batch, arguments.seconds)
        for name, step in stages.items()
    }
    print(
        json.dumps(
            {
                "what": "data",
                "images": len(data),
                "size": arguments.size,
                "batch": arguments.batch,
                "mosaic": arguments.mosaic,
                "threads": 1,
                "images_per_second": rates,
                "version": f"torchvision {torchvision.__version__}, torch {torch.__version__}",
            }
        )
    )


if __name__ == "__main__":
    main()
