//! What is written in each format reads back equal.

use proptest::prelude::*;
use tempfile::TempDir;

use super::model::*;
use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn coco_reads_back(model in model()) {
        let folder = TempDir::new().unwrap();
        write_coco(folder.path(), &model);
        let index = read_one(folder.path());
        prop_assert_eq!((index.format, index.split.as_str()), (Format::Coco, "train2017"));
        model.check(&index, true)?;
    }

    #[test]
    fn objects365_reads_back_from_its_patches(model in model()) {
        let folder = TempDir::new().unwrap();
        write_objects365(folder.path(), &model);
        let index = read_one(folder.path());
        prop_assert_eq!(index.format, Format::Objects365);
        model.check(&index, true)?;
    }

    #[test]
    fn crowdhuman_reads_back(model in model(), ignored: bool) {
        let mut model = model.numbered(true);
        model.categories = vec![Category { id: 1, name: "person".into() }];
        for object in model.images.iter_mut().flat_map(|image| &mut image.objects) {
            object.class = 0;
            object.ignored = ignored && !object.crowd;
        }
        let folder = TempDir::new().unwrap();
        write_crowdhuman(folder.path(), &model);
        let index = read_one(folder.path());
        prop_assert_eq!((index.format, index.split.as_str()), (Format::CrowdHuman, "val"));
        model.check(&index, true)?;
    }

    #[test]
    fn voc_reads_back(model in model(), ignored: bool) {
        let mut model = model.numbered(false);
        model.images.iter_mut().flat_map(|i| &mut i.objects).for_each(|o| o.ignored = ignored);
        let folder = TempDir::new().unwrap();
        write_voc(folder.path(), &model);
        let index = read_one(folder.path());
        prop_assert_eq!((index.format, index.split.as_str()), (Format::Voc, "train"));
        model.check(&index, true)?;
    }

    #[test]
    fn yolo_reads_back(model in model()) {
        let model = model.numbered(false);
        let folder = TempDir::new().unwrap();
        write_yolo(folder.path(), &model);
        let index = read_one(folder.path());
        prop_assert_eq!((index.format, index.split.as_str()), (Format::Yolo, "train"));
        model.check(&index, false)?;
    }
}
