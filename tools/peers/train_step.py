#!/usr/bin/env python3
"""Times PyTorch eager on the models that `deim bench` times, as one JSON line.

    pip install torch transformers scipy pillow
    python tools/peers/train_step.py r18 train
    python tools/peers/train_step.py n infer --steps 20
    python tools/peers/train_step.py r50,l,n train --device cuda --size 640 --batch 16,32 --autocast none,bf16

A line for each model, batch and autocast, in turn.

The peer is the transformers library's port of the same two detectors, built from its configuration
with random weights: nothing is downloaded. A training step is forward with denoising, the library's
own loss (Hungarian matching and the losses of all layers), backward, clipping, AdamW and a moving
average of every tensor of the state, as in the official training loop.
"""

import argparse
import copy
import json
import os
import platform
import resource
import statistics
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from transformers import (
    DFineConfig,
    DFineForObjectDetection,
    HGNetV2Config,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)

CLASSES = 80


def r18():
    """DEIM-RT-DETRv2-R18."""
    backbone = RTDetrResNetConfig(
        layer_type="basic",
        depths=[2, 2, 2, 2],
        hidden_sizes=[64, 128, 256, 512],
        out_indices=[2, 3, 4],
    )
    return RTDetrV2ForObjectDetection(
        RTDetrV2Config(
            backbone_config=backbone,
            freeze_backbone_batch_norms=False,
            encoder_in_channels=[128, 256, 512],
            hidden_expansion=0.5,
            decoder_layers=3,
            num_queries=300,
            num_denoising=100,
            num_labels=CLASSES,
        )
    )


def r50():
    """DEIM-RT-DETRv2-R50."""
    backbone = RTDetrResNetConfig(
        layer_type="bottleneck",
        depths=[3, 4, 6, 3],
        hidden_sizes=[256, 512, 1024, 2048],
        out_indices=[2, 3, 4],
    )
    return RTDetrV2ForObjectDetection(
        RTDetrV2Config(
            backbone_config=backbone,
            freeze_backbone_batch_norms=False,
            encoder_in_channels=[512, 1024, 2048],
            hidden_expansion=1.0,
            decoder_layers=6,
            num_queries=300,
            num_denoising=100,
            num_labels=CLASSES,
        )
    )


def l():
    """DEIM-D-FINE-L."""
    backbone = HGNetV2Config(
        stem_channels=[3, 32, 48],
        stage_in_channels=[48, 128, 512, 1024],
        stage_mid_channels=[48, 96, 192, 384],
        stage_out_channels=[128, 512, 1024, 2048],
        stage_num_blocks=[1, 1, 3, 1],
        stage_downsample=[False, True, True, True],
        stage_light_block=[False, False, True, True],
        stage_kernel_size=[3, 3, 5, 5],
        stage_numb_of_layers=[6, 6, 6, 6],
        depths=[1, 1, 3, 1],
        hidden_sizes=[128, 512, 1024, 2048],
        use_learnable_affine_block=False,
        out_indices=[2, 3, 4],
    )
    return DFineForObjectDetection(
        DFineConfig(
            backbone_config=backbone,
            freeze_backbone_batch_norms=False,
            encoder_in_channels=[512, 1024, 2048],
            encoder_hidden_dim=256,
            encoder_ffn_dim=1024,
            hidden_expansion=1.0,
            depth_mult=1.0,
            d_model=256,
            decoder_in_channels=[256, 256, 256],
            decoder_ffn_dim=1024,
            decoder_layers=6,
            decoder_n_points=[3, 6, 3],
            num_queries=300,
            num_denoising=100,
            num_labels=CLASSES,
        )
    )


def n():
    """DEIM-D-FINE-N."""
    backbone = HGNetV2Config(
        stem_channels=[3, 16, 16],
        stage_in_channels=[16, 64, 256, 512],
        stage_mid_channels=[16, 32, 64, 128],
        stage_out_channels=[64, 256, 512, 1024],
        stage_num_blocks=[1, 1, 2, 1],
        stage_downsample=[False, True, True, True],
        stage_light_block=[False, False, True, True],
        stage_kernel_size=[3, 3, 5, 5],
        stage_numb_of_layers=[3, 3, 3, 3],
        depths=[1, 1, 2, 1],
        hidden_sizes=[64, 256, 512, 1024],
        use_learnable_affine_block=True,
        out_indices=[3, 4],
    )
    return DFineForObjectDetection(
        DFineConfig(
            backbone_config=backbone,
            freeze_backbone_batch_norms=False,
            encoder_in_channels=[512, 1024],
            feat_strides=[16, 32],
            encode_proj_layers=[1],
            encoder_hidden_dim=128,
            encoder_ffn_dim=512,
            hidden_expansion=0.34,
            depth_mult=0.5,
            d_model=128,
            decoder_in_channels=[128, 128],
            decoder_ffn_dim=512,
            decoder_activation_function="silu",
            decoder_layers=3,
            decoder_n_points=[6, 6],
            decoder_n_levels=2,
            num_feature_levels=2,
            num_queries=300,
            num_denoising=100,
            num_labels=CLASSES,
        )
    )


MODELS = {"r18": r18, "r50": r50, "n": n, "l": l}


def targets(batch, generator):
    """Ten boxes an image on average: 8, 9, .. 12 in turn."""
    made = []
    for image in range(batch):
        count = 8 + (image * 3) % 5 if batch > 1 else 10
        sizes = 0.05 + 0.35 * torch.rand(count, 2, generator=generator)
        centres = sizes / 2 + (1 - sizes) * torch.rand(count, 2, generator=generator)
        labels = torch.randint(0, CLASSES, (count,), generator=generator)
        made.append({"class_labels": labels, "boxes": torch.cat([centres, sizes], 1)})
    return made


class Average:
    """The official moving average: every floating tensor of the state."""

    def __init__(self, model):
        self.state = copy.deepcopy(model).eval().state_dict()
        self.decay = 0.9999

    @torch.no_grad()
    def update(self, model):
        current = model.state_dict()
        for name, value in self.state.items():
            if value.dtype.is_floating_point:
                value *= self.decay
                value += (1 - self.decay) * current[name].detach()


class Stages:
    """The seconds of each stage; on a GPU only where asked to, since each waits for it."""

    def __init__(self, device):
        self.device = device
        self.seconds = {}
        self.on = True

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def timed(self, name, work):
        if not self.on:
            return work()
        self.wait()
        start = time.perf_counter()
        result = work()
        self.wait()
        self.seconds.setdefault(name, []).append(time.perf_counter() - start)
        return result


def milliseconds(seconds):
    return round(1000 * statistics.median(seconds), 2)


def measure(options, name, batch, autocast):
    device = torch.device(options.device)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = MODELS[name]().to(device)
    images = torch.rand(batch, 3, options.size, options.size, generator=generator).to(device)
    labels = targets(batch, generator)
    labels = [{key: value.to(device) for key, value in each.items()} for each in labels]
    stages = Stages(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def forward():
        half = torch.autocast(device.type, torch.bfloat16, enabled=autocast == "bf16")
        with half:
            return model(images, labels=labels) if options.what == "train" else model(images)

    if options.what == "train":
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4)
        average = Average(model)

        def optimize():
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad()

        def step():
            output = stages.timed("forward and criterion", forward)
            if not torch.isfinite(output.loss):
                sys.exit("the loss is not finite")
            stages.timed("backward", output.loss.backward)
            stages.timed("optimizer", optimize)
            stages.timed("ema", lambda: average.update(model))

    else:
        model.eval()

        def step():
            with torch.no_grad():
                stages.timed("forward", forward)

    for _ in range(options.warmup):
        step()
    stages.seconds.clear()
    stages.on = device.type == "cpu"
    stages.wait()
    times = []
    first = time.perf_counter()
    for _ in range(options.steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    stages.wait()
    total = time.perf_counter() - first
    if not stages.on:
        stages.on = True
        for _ in range(min(options.steps, 10)):
            step()
    return {
        "peer": "pytorch",
        "what": options.what,
        "model": name,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "autocast": autocast,
        "size": options.size,
        "batch": batch,
        "threads": options.threads,
        "steps": options.steps,
        "parameters": sum(p.numel() for p in model.parameters()),
        "median_ms": milliseconds(times),
        "fastest_ms": round(1000 * min(times), 2),
        "images_per_second": round(batch * options.steps / total, 2),
        "stages_ms": {name: milliseconds(each) for name, each in stages.seconds.items()},
        # Linux counts it in KiB.
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "device_peak_mib": torch.cuda.max_memory_allocated(device) >> 20
        if device.type == "cuda"
        else None,
        "targets": sum(len(each["boxes"]) for each in labels),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def listed(choices, kind=str):
    """A comma-separated list, each one of the choices if there are any."""

    def parse(text):
        values = [kind(each) for each in text.split(",")]
        for value in values:
            if choices and value not in choices:
                raise argparse.ArgumentTypeError(f"expected {', '.join(choices)}, found {value}")
        return values

    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=listed(list(MODELS)))
    parser.add_argument("what", choices=["train", "infer"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--autocast", type=listed(["none", "bf16"]), default=["none"])
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=listed(None, int), default=[4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    for name in options.models:
        for batch in options.batch:
            for autocast in options.autocast:
                print(json.dumps(measure(options, name, batch, autocast)), flush=True)


if __name__ == "__main__":
    main()
