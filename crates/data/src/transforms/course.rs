//! Everything between a mosaic, or an image as it is, and the model's square input (deim-facts 3.2).

use crate::sample::{Image, Sample};
use crate::transforms::boxes::{flip, mirror, sanitize};
use crate::transforms::frame::Frame;
use crate::transforms::iou_crop::IouCrop;
use crate::transforms::photometric::Photometric;
use crate::transforms::resize::{rescale, resize_frame};
use crate::transforms::zoom_out::ZoomOut;

/// What was drawn for one sample; what is `None` is not applied.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Course {
    pub photometric: Option<Photometric>,
    pub zoom_out: Option<ZoomOut>,
    pub crop: Option<IouCrop>,
    pub flip: bool,
}

impl Course {
    /// The sample as a square of `side` pixels, through the operations in the official order:
    /// photometric distortion, zoom-out, crop, sanitizer, flip, resize, sanitizer.
    pub fn apply(&self, mut sample: Sample, side: usize) -> Sample {
        let frame = self.frame(&sample.image);
        self.boxes(&mut sample, frame, side);
        let mut image = std::mem::replace(&mut sample.image, Image::black(0, 0));
        if let Some(photometric) = &self.photometric {
            photometric.apply(&mut image);
        }
        let mut frame = frame;
        if self.flip {
            mirror(&mut image);
            frame = frame.flipped(&image);
        }
        sample.image = if frame == Frame::around(&image) && [image.width, image.height] == [side; 2]
        {
            image
        } else {
            resize_frame(&image, frame, side, side)
        };
        sample
    }

    /// What zoom-out and crop show of an image.
    pub fn frame(&self, image: &Image) -> Frame {
        let mut frame = Frame::around(image);
        if let Some(zoom) = &self.zoom_out {
            frame = frame.zoomed_out(zoom);
        }
        if let Some(crop) = &self.crop {
            frame = frame.cropped(crop);
        }
        frame
    }

    fn boxes(&self, sample: &mut Sample, frame: Frame, side: usize) {
        let present = sample.boxes.len();
        if let Some(zoom) = &self.zoom_out {
            zoom.shift(&mut sample.boxes);
        }
        if let Some(crop) = &self.crop {
            crop.cut(sample);
        }
        let seen = [frame.width, frame.height];
        sanitize(sample, seen);
        if self.flip {
            flip(&mut sample.boxes, frame.width);
        }
        rescale(&mut sample.boxes, seen, [side; 2]);
        sanitize(sample, [side; 2]);
        sample.dropped_boxes += present.saturating_sub(sample.boxes.len());
    }
}
