//! The files that the command line gives: images, and weights to start from.

use std::path::PathBuf;

use deim_data::readers::Format;
use deim_data::{Place, SplitPlace};
use deim_lab::{Inputs, LabError, WeightsFile};

/// Where images and weights are. Cells are identified by what the files hold, not by these paths.
#[derive(clap::Args, Clone, Default)]
pub struct InputArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// Weights to start from, in a recipe that does (.pth or safetensors); may be repeated.
    #[arg(long, value_name = "FILE", help_heading = FILES)]
    pretrained: Vec<PathBuf>,
}

/// Where images are.
#[derive(clap::Args, Clone, Default)]
pub struct DataArgs {
    /// Folder of the data set, at a scale of real images; its format and splits are found.
    #[arg(long, value_name = "DIR", help_heading = FILES)]
    data: Option<PathBuf>,
    /// Format of the data set: coco, objects365, crowdhuman, voc or yolo.
    #[arg(long, value_name = "FORMAT", requires = "data", help_heading = FILES)]
    data_format: Option<Format>,
    /// Annotations to train on, where they cannot be found.
    #[arg(long, value_name = "PATH", requires = "data", help_heading = FILES)]
    train_annotations: Option<PathBuf>,
    /// Folder of the images to train on, where they cannot be found.
    #[arg(long, value_name = "DIR", requires = "data", help_heading = FILES)]
    train_images: Option<PathBuf>,
    /// Annotations to measure on, where they cannot be found.
    #[arg(long, value_name = "PATH", requires = "data", help_heading = FILES)]
    val_annotations: Option<PathBuf>,
    /// Folder of the images to measure on, where they cannot be found.
    #[arg(long, value_name = "DIR", requires = "data", help_heading = FILES)]
    val_images: Option<PathBuf>,
}

const FILES: &str = "Files";

impl DataArgs {
    /// The place that the user names, if any.
    pub fn place(&self) -> Option<Place> {
        let split = |annotations: &Option<PathBuf>, images: &Option<PathBuf>| SplitPlace {
            annotations: annotations.clone(),
            images: images.clone(),
        };
        self.data.as_ref().map(|folder| Place {
            folder: folder.clone(),
            format: self.data_format,
            train: split(&self.train_annotations, &self.train_images),
            val: split(&self.val_annotations, &self.val_images),
        })
    }
}

impl InputArgs {
    /// Reads every file of weights for its hash.
    pub fn inputs(&self) -> Result<Inputs, LabError> {
        let weights = self.pretrained.iter().map(|path| WeightsFile::read(path));
        Ok(Inputs::new(self.data.place(), weights.collect::<Result<_, _>>()?))
    }
}
