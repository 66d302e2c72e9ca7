use std::collections::BTreeMap;
use burn::tensor::{Device, Tensor, TensorData};
fn u(text: &str, n: usize) -> Vec<f32> {
    let mut h: u64 = 0xcbf29ce484222325;
    for b in text.bytes() { h ^= b as u64; h = h.wrapping_mul(0x100000001b3); }
    (0..n).map(|_| { h = h.wrapping_add(0x9E3779B97F4A7C15); let mut z = h; z = (z ^ (z >> 30)).wrapping_mul(0xBF58476D1CE4E5B9); z = (z ^ (z >> 27)).wrapping_mul(0x94D049BB133111EB); z ^= z >> 31; (z >> 40) as f32 * 2f32.powi(-24) }).collect()
}
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let size: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let seed = std::env::args().nth(3).unwrap();
    let mut config = deim_spec::Config::default();
    let m = &mut config.model;
    m.backbone.block = deim_spec::config::Block::Basic; m.backbone.blocks = [2,2,2,2];
    m.encoder.expansion = 0.5; m.decoder.layers = 3;
    let device = Device::flex();
    let det = deim_model::Detector::new(&config, 80, 0, &device);
    let mut map = BTreeMap::new();
    for (name, data) in deim_model::weights::read(&det) {
        let shape = data.shape.to_vec(); let n: usize = shape.iter().product();
        let f = u(&name, n);
        let v: Vec<f32> = if name.ends_with("running_var") { f.iter().map(|f| 0.5 + f).collect() }
        else if name.ends_with("running_mean") { f.iter().map(|f| 0.2f32 * (f - 0.5)).collect() }
        else if shape.len() <= 1 && name.ends_with("bias") {
            if name.ends_with("enc_output.proj.bias") { f.iter().map(|f| 0.001f32 * (f - 0.5)).collect() }
            else if name.contains("score_head.") { f.iter().map(|f| 0.1f32 * (f - 0.5) - 4.0).collect() }
            else { f.iter().map(|f| 0.1f32 * (f - 0.5)).collect() }
        } else if shape.len() <= 1 { f.iter().map(|f| 0.75 + 0.5 * f).collect() }
        else {
            let fan: usize = shape[1..].iter().product();
            let g = if shape.len() == 4 && (name.starts_with("backbone.stem.") || name.starts_with("backbone.stages.") || name.starts_with("encoder.")) { 1.2 } else { 1.0 };
            let s = (g * (3.0 / fan as f64).sqrt()) as f32;
            let mut v: Vec<f32> = f.iter().map(|f| (2.0 * f - 1.0) * s).collect();
            if name.ends_with("denoising_class_embed.weight") { let l = v.len(); v[l - shape[1]..].fill(0.0); }
            v
        };
        map.insert(name, TensorData::new(v, shape));
    }
    let det = deim_model::weights::load(det, &map).unwrap();
    let base = u(&format!("image:{seed}"), 3 * size / 8 * size / 8);
    let noise = u(&format!("noise:{seed}"), 3 * size * size);
    let mut img = vec![0f32; 3 * size * size];
    for c in 0..3 { for y in 0..size { for x in 0..size { let i = (c * size + y) * size + x; img[i] = 0.8f32 * base[(c * (size / 8) + y / 8) * (size / 8) + x / 8] + 0.2f32 * noise[i]; } } }
    let start = std::time::Instant::now();
    let p = det.infer(Tensor::from_data(TensorData::new(img, [1, 3, size, size]), &device));
    println!("{:?}", start.elapsed());
    let bytes = std::fs::read(format!("{dir}/tensors.safetensors")).unwrap();
    let st = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, ours) in [("pred_logits", p.logits), ("pred_boxes", p.boxes)] {
        let ours: Vec<f32> = ours.into_data().iter().collect();
        let r: Vec<f32> = st.tensor(name).unwrap().data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let worst = ours.iter().zip(&r).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let close = ours.iter().zip(&r).filter(|(a, b)| (*a - *b).abs() < 1e-3).count();
        println!("{name} worst {worst} close {close}/{} first {:?} {:?}", r.len(), &ours[..4], &r[..4]);
    }
}
