//! What the targets share: a folder that files are written into, and what is done with a data set.

pub mod weights;

use std::fs;
use std::path::{Path, PathBuf};

use deim_data::check::{Stats, check};
use deim_data::dataset::Dataset;
use deim_data::decode;
use deim_data::readers::{Format, Index, Options, RealDataset, read};

/// Two files in one input stand apart by this.
const BETWEEN: &[u8] = b"%%\n";

/// The files of an input, as many as asked for; those that it does not have are empty.
pub fn files<const COUNT: usize>(data: &[u8]) -> [&[u8]; COUNT] {
    let mut rest = data;
    std::array::from_fn(|at| {
        let end = rest.windows(BETWEEN.len()).position(|window| window == BETWEEN);
        match end.filter(|_| at + 1 < COUNT) {
            Some(end) => {
                let file = &rest[..end];
                rest = &rest[end + BETWEEN.len()..];
                file
            }
            None => std::mem::take(&mut rest),
        }
    })
}

/// A folder of this process alone. It stays: a fuzzer ends by a signal at times.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(target: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("deim-fuzz-{target}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for temporary files");
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
        fs::write(&path, content).expect("room for a small file");
        path
    }

    /// Two small pictures, called `a.png` and `b.jpg`, of 8 x 8 pixels.
    pub fn pictures(&self, folder: &str) {
        self.write(&format!("{folder}/a.png"), include_bytes!("../corpus/decode/rgb.png"));
        self.write(&format!("{folder}/b.jpg"), include_bytes!("../corpus/decode/rgb.jpg"));
    }

    /// Everything that `deim data` and a run do with a data set.
    pub fn look(&self, format: Format) {
        let options = Options { format: Some(format), ..Options::default() };
        let Ok(reading) = read(self.path(), &options) else { return };
        check(&reading.splits, 1, &|_| ());
        for split in reading.splits {
            Stats::of(&split, split.manifest(None));
            train_on(split);
        }
    }
}

/// A data set that is taken gives samples and truths that are sound.
fn train_on(split: Index) {
    let Ok(dataset) = RealDataset::open(split) else { return };
    for index in 0..dataset.len().min(4) {
        if let Ok(truth) = dataset.truth(index) {
            let classes = dataset.classes().len();
            assert!(truth.objects.iter().all(|object| (object.class as usize) < classes));
            assert!(truth.objects.iter().all(|object| object.bbox.iter().all(|x| x.is_finite())));
        }
        let Ok(sample) = dataset.sample(index) else { continue };
        assert_eq!(sample.boxes.len(), sample.labels.len());
        let [width, height] = sample.original_size.map(|side| side as f32);
        for [x1, y1, x2, y2] in &sample.boxes {
            assert!(0.0 <= *x1 && x1 < x2 && *x2 <= width, "{x1} {x2} of {width}");
            assert!(0.0 <= *y1 && y1 < y2 && *y2 <= height, "{y1} {y2} of {height}");
        }
    }
}

/// The decoders may panic inside `decode`, which makes that an error; libFuzzer's hook would end the
/// process before it does. A panic that gets out still ends it.
pub fn allow_caught_panics() {
    std::panic::set_hook(Box::new(|_| ()));
}

/// Decodes bytes; what comes out is as large as the header says.
pub fn picture(bytes: &[u8]) {
    // Half a gigabyte of pixels is allowed, but tells a fuzzer nothing.
    let Ok(header) = decode::header(bytes) else {
        assert!(decode::decode(bytes).is_err());
        return;
    };
    let [width, height] = header.size.map(|side| side as usize);
    if width * height > 1 << 20 {
        return;
    }
    if let Ok(picture) = decode::decode(bytes) {
        assert_eq!(picture.header, header);
        assert_eq!(picture.image.pixels.len(), width * height * 3);
    }
}
