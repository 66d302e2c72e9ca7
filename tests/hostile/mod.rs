//! Data sets with everything wrong that the readers and the decoder know of, written by the tests.

use std::fs;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use serde_json::{Value, json};

pub fn write(root: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Pixels that differ from seed to seed.
fn pixels(count: u32, seed: u8) -> Vec<u8> {
    (0..count).map(|at| (at * 7 % 251) as u8 ^ seed).collect()
}

pub fn jpeg([width, height]: [u32; 2], colour: ExtendedColorType, seed: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let count = width * height * u32::from(colour.channel_count());
    JpegEncoder::new_with_quality(&mut bytes, 90)
        .write_image(&pixels(count, seed), width, height, colour)
        .unwrap();
    bytes
}

pub fn png([width, height]: [u32; 2], colour: ExtendedColorType, seed: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let count = width * height * u32::from(colour.bits_per_pixel()) / 8;
    PngEncoder::new(&mut bytes).write_image(&pixels(count, seed), width, height, colour).unwrap();
    bytes
}

fn palette_png([width, height]: [u32; 2]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette(pixels(768, 3));
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&pixels(width * height, 0)).unwrap();
    writer.finish().unwrap();
    bytes
}

/// A JPEG of 8 x 8 pixels of four inks, all of them at half strength.
fn cmyk_jpeg() -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8];
    let mut segment = |marker: u8, content: &[u8]| {
        bytes.extend([0xff, marker, 0, content.len() as u8 + 2]);
        bytes.extend(content);
    };
    segment(0xdb, &[[0].as_slice(), &[1; 64]].concat());
    segment(0xc0, &[8, 0, 8, 0, 8, 4, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 4, 0x11, 0]);
    // One code of one bit for "no difference" and one for "end of block".
    let one_code = |table: u8| [[table, 1].as_slice(), &[0; 16]].concat();
    segment(0xc4, &one_code(0));
    segment(0xc4, &one_code(0x10));
    segment(0xda, &[4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0]);
    bytes.extend([0, 0xff, 0xd9]);
    bytes
}

/// The JPEG of a camera that was turned to its side.
fn turned(jpeg: &[u8]) -> Vec<u8> {
    let exif =
        b"\xff\xe1\0\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    [&jpeg[..2], exif, &jpeg[2..]].concat()
}

/// A PNG whose header promises 65535 x 65535 pixels.
fn bomb() -> Vec<u8> {
    let mut bytes = png([1, 1], ExtendedColorType::L8, 0);
    bytes[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    let crc = !bytes[12..29].iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    });
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

const SIZE: [u32; 2] = [40, 30];

/// A COCO data set of two splits with one of each thing wrong.
pub fn coco(root: &Path) {
    use ExtendedColorType::{L8, L16, La8, Rgb8, Rgb16, Rgba8};
    let good = jpeg(SIZE, Rgb8, 0);
    let files: [(&str, Vec<u8>); 20] = [
        ("good.jpg", good.clone()),
        ("twin.jpg", good.clone()),
        ("grey.jpg", jpeg(SIZE, L8, 1)),
        ("cmyk.jpg", cmyk_jpeg()),
        ("turned.jpg", turned(&good)),
        ("sideways.jpg", jpeg([30, 40], Rgb8, 2)),
        ("png.jpg", png(SIZE, Rgb8, 3)),
        ("palette.png", palette_png(SIZE)),
        ("alpha.png", png(SIZE, Rgba8, 4)),
        ("grey-alpha.png", png(SIZE, La8, 5)),
        ("deep.png", png(SIZE, Rgb16, 6)),
        ("deep-grey.png", png(SIZE, L16, 7)),
        ("half.jpg", good[..good.len() / 2].to_vec()),
        ("half.png", png(SIZE, Rgb8, 8)[..300].to_vec()),
        ("no-end.jpg", good[..good.len() - 2].to_vec()),
        ("empty.jpg", Vec::new()),
        ("page.jpg", b"<!DOCTYPE html><title>404</title>".to_vec()),
        ("pointer.jpg", b"version https://git-lfs.github.com/spec/v1\nsize 12\n".to_vec()),
        ("bomb.png", bomb()),
        ("unlisted.jpg", jpeg(SIZE, Rgb8, 9)),
    ];
    for (name, bytes) in &files {
        write(root, &format!("images/{name}"), bytes);
    }
    fs::create_dir_all(root.join("images/folder.jpg")).unwrap();
    let mut images: Vec<Value> = (1..)
        .zip(files.iter().map(|(name, _)| *name).filter(|name| *name != "unlisted.jpg"))
        .map(|(id, name)| {
            let [width, height] = if name == "cmyk.jpg" { [8, 8] } else { SIZE };
            json!({"id": id, "file_name": name, "width": width, "height": height})
        })
        .collect();
    images.extend([
        json!({"id": 50, "file_name": "missing.jpg", "width": 40, "height": 30}),
        json!({"id": 51, "file_name": "folder.jpg", "width": 40, "height": 30}),
        json!({"id": 52, "file_name": "../../secret.jpg", "width": 40, "height": 30}),
        json!({"id": 53, "file_name": "/etc/passwd", "width": 40, "height": 30}),
        json!({"id": 54, "file_name": "good.jpg"}),
        json!({"id": 54, "file_name": "grey.jpg"}),
        json!({"id": "x", "file_name": "grey.jpg"}),
        json!({"id": 55}),
    ]);
    let mut annotations = Vec::new();
    let mut add = |bbox: Value, more: Value| {
        let mut entry = json!({"id": annotations.len() + 1, "image_id": 1, "category_id": 1,
                               "bbox": bbox, "area": 100, "iscrowd": 0});
        for (key, value) in more.as_object().unwrap() {
            entry[key] = value.clone();
        }
        annotations.push(entry);
    };
    add(json!([1, 2, 10, 10]), json!({}));
    add(json!([1, 2, 10, 10]), json!({}));
    add(json!([35, 2, 10, 10]), json!({}));
    add(json!([-20, 2, 10, 10]), json!({}));
    add(json!([20, 20, -5, 5]), json!({}));
    add(json!([20, 20, 5, 0]), json!({}));
    add(json!([1e300, 0, 1e300, 5]), json!({}));
    add(json!([1, 2, "NaN", 4]), json!({}));
    add(json!([1, 2, 3]), json!({}));
    add(json!("1,2,3,4"), json!({}));
    add(json!([3, 2, 10, 10]), json!({"iscrowd": 1}));
    add(json!([4, 2, 10, 10]), json!({"area": null}));
    add(json!([5, 2, 10, 10]), json!({"category_id": 77}));
    add(json!([6, 2, 10, 10]), json!({"category_id": "dog"}));
    add(json!([7, 2, 10, 10]), json!({"image_id": 999}));
    add(json!([8, 2, 10, 10]), json!({"id": 1}));
    let categories = json!([
        {"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 9, "name": "cat"}, {"id": 2, "name": "cow"},
        {"name": "no id \u{1b}[31m"}
    ]);
    let train = json!({"images": images, "annotations": annotations, "categories": categories});
    // Python writes this.
    let train = train.to_string().replace("\"NaN\"", "NaN");
    write(root, "annotations/instances_train.json", train);
    let val = json!({
        "images": [{"id": 1, "file_name": "grey.jpg", "width": 40, "height": 30}],
        "annotations": [],
        "categories": [{"id": 1, "name": "cat"}],
    });
    write(root, "annotations/instances_val.json", val.to_string());
    write(root, "annotations/instances_test.json", "{\"images\": [{\"id\": 1,");
    write(root, "../secret.jpg", jpeg(SIZE, Rgb8, 10));
}

/// A VOC data set of one split.
pub fn voc(root: &Path) {
    let sheet = |name: &str, objects: &str| {
        let size = "<size><width>40</width><height>30</height></size>";
        write(
            root,
            &format!("Annotations/{name}.xml"),
            format!("<annotation>{size}{objects}</annotation>"),
        );
    };
    let object = |name: &str, corners: [&str; 4], difficult: &str| {
        let [left, top, right, bottom] = corners;
        format!(
            "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{left}</xmin>\
             <ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        )
    };
    for (seed, name) in (0..).zip(["good", "deep", "bomb", "cut", "nosheet"]) {
        write(root, &format!("JPEGImages/{name}.jpg"), jpeg(SIZE, ExtendedColorType::Rgb8, seed));
    }
    let objects = [
        object("cat", ["1", "2", "10", "10"], "0"),
        object("dog", ["1", "2", "10", "10"], "1"),
        object("dog", ["10", "2", "1", "10"], "0"),
        object("dog", ["nan", "2", "1", "10"], "0"),
        object("", ["1", "2", "1", "10"], "0"),
        "<object><name>cat</name></object>".to_owned(),
    ];
    sheet("good", &objects.concat());
    sheet("noimage", &object("cat", ["1", "2", "10", "10"], "0"));
    sheet("deep", &format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000)));
    let bomb = "<!DOCTYPE a [<!ENTITY x \"boom\">]><annotation>&x;</annotation>";
    write(root, "Annotations/bomb.xml", bomb);
    write(root, "Annotations/cut.xml", "<annotation><object><name>cat");
    let list = "good\ngood\ndeep\nbomb\ncut\nnosheet\nnoimage\n../../secret\n";
    write(root, "ImageSets/Main/train.txt", list);
}

/// A YOLO folder of one split.
pub fn yolo(root: &Path) {
    for (seed, name) in (0..).zip(["good", "plain"]) {
        write(root, &format!("images/train/{name}.jpg"), jpeg(SIZE, ExtendedColorType::Rgb8, seed));
    }
    let labels = "0 0.5 0.5 0.2 0.2\n1 0.9 0.5 0.4 0.2\n0 0.1 0.1 0.3 0.1 0.3 0.4\n\
                  2 0.5 0.5 0.1 0.1\n-1 0.5 0.5 0.1 0.1\ncat 0.5 0.5 0.1 0.1\n0 nan 0.5 0.1 0.1\n\
                  0 0.5 0.5\n0 7 7 0.1 0.1\n0 0.5 0.5 -0.1 0.1\n0 1e308 0.5 1e308 0.1\n";
    write(root, "labels/train/good.txt", labels);
    write(root, "labels/train/lonely.txt", "0 0.5 0.5 0.1 0.1\n");
    write(root, "data.yaml", "path: .\ntrain: images/train\nval:\nnc: 2\nnames: [cat, 'dog']\n");
}

/// A CrowdHuman folder of one split.
pub fn crowdhuman(root: &Path) {
    write(root, "Images/27,a.jpg", jpeg(SIZE, ExtendedColorType::Rgb8, 0));
    let person = |fbox: Value| json!({"tag": "person", "fbox": fbox, "hbox": [0, 0, 1, 1]});
    let mut ignored = person(json!([5, 5, 10, 20]));
    ignored["extra"] = json!({"ignore": 1});
    let boxes = json!([
        person(json!([-5, 2, 20, 30])),
        ignored,
        {"tag": "mask", "fbox": [20, 5, 10, 20], "extra": {"ignore": 1}},
        {"tag": "dog", "fbox": [20, 5, 10, 20]},
        person(json!([1, 2, null, 4])),
        {"tag": "person"},
    ]);
    let lines = [
        json!({"ID": "27,a", "gtboxes": boxes}).to_string(),
        json!({"ID": "27,a", "gtboxes": []}).to_string(),
        json!({"ID": "28,gone", "gtboxes": []}).to_string(),
        json!({"ID": "../../secret", "gtboxes": []}).to_string(),
        "{\"ID\": \"29\", \"gtbo".to_owned(),
        String::new(),
    ];
    write(root, "annotation_train.odgt", lines.join("\n"));
}
